package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/neogan74/konsul/client"
)

// exampleNode stands in for a running node, so that the examples run anywhere.
func exampleNode() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /kv/app/config":
			io.WriteString(w, `{"key":"app/config","value":"on","create_index":7,"modify_index":9,"flags":0}`)
		case "PUT /kv/app/config":
			io.WriteString(w, `{"message":"key set","key":"app/config","modify_index":12,"create_index":7}`)
		case "GET /kv":
			io.WriteString(w, `{"keys":["app/config","app/name"],"next":null}`)
		case "POST /txn":
			io.WriteString(w, `{"succeeded":false,"index":13,"results":[{"op":"get","key":"lock","found":true,"value":"you","create_index":4,"modify_index":4,"flags":0}]}`)
		case "GET /watch":
			w.Header().Set("X-Konsul-Index", "9")
			io.WriteString(w, "id: 12\nevent: put\ndata: {\"key\":\"app/config\",\"value\":\"on\",\"create_index\":7,\"modify_index\":12,\"flags\":0}\n\n")
		default:
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"error":"key not found","code":"key_not_found"}`)
		}
	}))
}

func Example() {
	node := exampleNode()
	defer node.Close()
	ctx := context.Background()

	c, err := client.New(client.Config{Addresses: []string{node.URL}})
	if err != nil {
		panic(err)
	}
	put, err := c.Put(ctx, "app/config", []byte("on"))
	fmt.Println(put.ModifyIndex, err)
	_, err = c.Get(ctx, "missing")
	fmt.Println(client.IsNotFound(err), err)
	// Output:
	// 12 <nil>
	// true key not found (key_not_found, HTTP 404)
}

// Read, change, write back only if nobody else did in between.
func ExampleCAS() {
	node := exampleNode()
	defer node.Close()
	ctx := context.Background()
	c, _ := client.New(client.Config{Addresses: []string{node.URL}})

	entry, err := c.Get(ctx, "app/config")
	if err != nil {
		panic(err)
	}
	_, err = c.Put(ctx, "app/config", append(entry.Value, '!'), client.CAS(entry.ModifyIndex))
	if client.IsCASConflict(err) {
		fmt.Println("somebody was faster: read again")
	}
	fmt.Println(err)
	// Output: <nil>
}

func ExampleClient_Keys() {
	node := exampleNode()
	defer node.Close()
	c, _ := client.New(client.Config{Addresses: []string{node.URL}})

	for key, err := range c.Keys(context.Background(), client.ListOptions{Prefix: "app/"}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(key)
	}
	// Output:
	// app/config
	// app/name
}

func ExampleClient_Txn() {
	node := exampleNode()
	defer node.Close()
	c, _ := client.New(client.Config{Addresses: []string{node.URL}})

	result, err := c.Txn().
		If(client.CompareExists("lock", false)).
		Then(client.OpSet("lock", []byte("me"))).
		Else(client.OpGet("lock")).
		Commit(context.Background())
	if err != nil {
		panic(err)
	}
	if !result.Succeeded {
		fmt.Printf("locked by %s\n", result.Results[0].Entry.Value)
	}
	// Output: locked by you
}

func ExampleClient_Watch() {
	node := exampleNode()
	defer node.Close()
	c, _ := client.New(client.Config{Addresses: []string{node.URL}})

	for event, err := range c.Watch(context.Background(), client.WatchOptions{Prefix: "app/"}) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d %s %s = %s\n", event.Index, event.Type, event.Key, event.Entry.Value)
		break
	}
	// Output: 12 put app/config = on
}
