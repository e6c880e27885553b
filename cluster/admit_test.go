package cluster

import (
	"errors"
	"testing"
)

func TestWhoCannotJoin(t *testing.T) {
	good := JoinRequest{NodeID: "n-1.A_b", Address: "host-1.example:7000", APIAddress: "[::1]:8500"}
	if err := checkJoin(good); err != nil {
		t.Fatalf("%+v: %v", good, err)
	}
	for field, values := range map[string][]string{
		"node_id":     {"", "../x", "a b", "a\n", "ä", string(make([]byte, 129))},
		"address":     {"", "host", "host:", ":7000", "host:0", "host:99999", "host:-1", "host:http", "0.0.0.0:7000", "[::]:7000", "127.0.0.1\n:9", "a b:7000", "a/b:7000"},
		"api_address": {"host", "host:99999", "127.0.0.1\r\n:9"},
	} {
		for _, value := range values {
			req := good
			switch field {
			case "node_id":
				req.NodeID = value
			case "address":
				req.Address = value
			case "api_address":
				req.APIAddress = value
			}
			var invalid *InvalidError
			if err := checkJoin(req); !errors.As(err, &invalid) || invalid.Field != field {
				t.Errorf("%s %q: %v", field, value, err)
			}
		}
	}
}
