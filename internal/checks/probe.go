package checks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
)

const (
	// maxRedirects are followed, and only within the host that was asked: a service
	// must not send this node elsewhere.
	maxRedirects = 3
	// maxHeaderBytes bounds the headers of an answer.
	maxHeaderBytes = 64 << 10
)

// result is what one run of a check found.
type result struct {
	status command.Check_Status
	output string
}

// prober runs checks. It keeps no connections.
type prober struct {
	http *http.Client
	dial *net.Dialer
}

func newProber() *prober {
	dial := &net.Dialer{}
	return &prober{dial: dial, http: &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // what is checked is the service, not this node's proxy
			DialContext:            dial.DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeaderBytes,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects || req.URL.Host != via[0].URL.Host {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}}
}

// run runs a check once; ctx bounds it.
func (p *prober) run(ctx context.Context, c *record.Check) result {
	switch command.Check_Kind(c.Kind) {
	case command.Check_HTTP:
		return p.get(ctx, c.Target)
	case command.Check_TCP:
		return p.connect(ctx, c.Target)
	}
	return critical(fmt.Sprintf("a check of kind %d is not one that a node runs", c.Kind))
}

func critical(output string) result {
	return result{status: command.Check_CRITICAL, output: command.CutOutput(output)}
}

func (p *prober) get(ctx context.Context, target string) result {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return critical(fmt.Sprintf("GET %s: %v", redact(target), cause(err)))
	}
	req.Header.Set("User-Agent", "konsul-check")
	resp, err := p.http.Do(req)
	if err != nil {
		return critical(fmt.Sprintf("GET %s: %v", redact(target), cause(err)))
	}
	defer resp.Body.Close()
	out := result{
		status: httpStatus(resp.StatusCode),
		output: strings.TrimSpace(fmt.Sprintf("GET %s: %d %s", redact(target), resp.StatusCode, http.StatusText(resp.StatusCode))),
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return out // what follows is no body, and a read of it would not end with ctx
	}
	// The status counts, whatever becomes of the body.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, command.MaxCheckOutput))
	if b := strings.TrimSpace(string(body)); b != "" {
		out.output += ": " + b
	}
	out.output = command.CutOutput(out.output)
	return out
}

func httpStatus(code int) command.Check_Status {
	switch {
	case code >= 200 && code <= 299:
		return command.Check_PASSING
	case code == http.StatusTooManyRequests:
		return command.Check_WARNING
	}
	return command.Check_CRITICAL
}

func (p *prober) connect(ctx context.Context, target string) result {
	conn, err := p.dial.DialContext(ctx, "tcp", target)
	if err != nil {
		return critical(fmt.Sprintf("connecting to %s: %v", target, cause(err)))
	}
	_ = conn.Close()
	return result{status: command.Check_PASSING, output: command.CutOutput(fmt.Sprintf("connected to %s", target))}
}

// cause is an error without the request it repeats.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("no answer within the check's timeout")
	}
	return err
}

// redact leaves a password out of a URL.
func redact(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return "the URL"
	}
	return u.Redacted()
}
