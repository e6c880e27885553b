package harness

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Metric is the sum of all samples of one metric on /metrics.
func (n *Node) Metric(ctx context.Context, name string) (float64, error) {
	a, err := n.Get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	var sum float64
	found := false
	for s := bufio.NewScanner(bytes.NewReader(a.Body)); s.Scan(); {
		rest, ok := strings.CutPrefix(s.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", s.Text(), err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("%s: no metric %s", n.Name, name)
	}
	return sum, nil
}

// MustMetric is Metric that ends the test on an error.
func (n *Node) MustMetric(name string) float64 {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := n.Metric(ctx, name)
	if err != nil {
		n.t.Fatal(err)
	}
	return v
}
