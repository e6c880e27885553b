//go:build cluster

package cluster

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// peerHasIt says whether the other end of the connection with the local address
// local is still ESTABLISHED (or half closed by us), from /proc/net/tcp: a
// server that gave up on a peer that does not read is in FIN_WAIT or gone.
func peerHasIt(local string) bool {
	want := procAddr(local)
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 3 && f[2] == want && (f[3] == "01" || f[3] == "08") { // remote address, state
			return true
		}
	}
	return false
}

// procAddr is an IPv4 address as /proc/net/tcp prints it on a little-endian machine.
func procAddr(addr string) string {
	a := netip.MustParseAddrPort(addr)
	ip := a.Addr().As4()
	binary.LittleEndian.PutUint32(ip[:], binary.BigEndian.Uint32(ip[:]))
	return strings.ToUpper(hex.EncodeToString(ip[:])) + fmt.Sprintf(":%04X", a.Port())
}
