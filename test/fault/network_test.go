//go:build fault

package fault

import (
	"fmt"
	"testing"

	"github.com/neogan74/konsul/test/harness"
)

// network gives each node a network namespace on one bridge. The test sits on
// the bridge too and reaches every node, also one that is cut off from the others.
type network struct {
	t     testing.TB
	nodes int
}

func newNetwork(t testing.TB, nodes int) *network {
	t.Helper()
	w := &network{t, nodes}
	w.remove() // of a test before
	must(t, sh("ip link add kbr0 type bridge && ip addr add 10.213.7.254/24 dev kbr0 && ip link set kbr0 up"))
	for i := range nodes {
		must(t, sh("ip netns add %[2]s && ip link add kv%[1]d type veth peer name eth0 netns %[2]s && ip link set kv%[1]d master kbr0 up && "+
			"ip -n %[2]s addr add %[3]s/24 dev eth0 && ip -n %[2]s link set eth0 up && ip -n %[2]s link set lo up", i, ns(i), ip(i)))
	}
	t.Cleanup(w.remove)
	return w
}

func ns(i int) string { return fmt.Sprintf("knode%d", i+1) }
func ip(i int) string { return fmt.Sprintf("10.213.7.%d", i+1) }

func (w *network) remove() {
	for i := range w.nodes {
		_ = sh("ip link del kv%d", i) // a namespace goes later than its name
		_ = sh("ip netns del %s", ns(i))
	}
	_ = sh("ip link del kbr0")
}

// options makes a cluster live in the network.
func (w *network) options() harness.Options {
	return harness.Options{Nodes: w.nodes, Host: ip,
		Prefix: func(i int) []string { return []string{"ip", "netns", "exec", ns(i)} }}
}

// deafen drops what node a is sent by node b. Nothing tells the sender: packets vanish.
func (w *network) deafen(a, b int) {
	w.t.Helper()
	must(w.t, sh("ip netns exec %s iptables -w -A INPUT -s %s -j DROP", ns(a), ip(b)))
}

// isolate cuts a off from all other nodes in both directions.
func (w *network) isolate(a int) {
	w.t.Helper()
	for b := range w.nodes {
		if b != a {
			w.deafen(a, b)
			w.deafen(b, a)
		}
	}
}

// heal lets everything through again.
func (w *network) heal() {
	w.t.Helper()
	for i := range w.nodes {
		must(w.t, sh("ip netns exec %s iptables -w -F", ns(i)))
	}
}
