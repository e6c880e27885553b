package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

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
		case "POST /sessions":
			w.WriteHeader(http.StatusCreated)
			io.WriteString(w, `{"id":"a1b2","ttl":"10s","modify_index":20}`)
		case "PUT /kv/leader/api":
			io.WriteString(w, `{"modify_index":21,"create_index":5,"lock_index":21,"session":"a1b2"}`)
		case "GET /kv/leader/api":
			<-r.Context().Done() // it would answer when the lock changes hands
		case "PUT /sessions/a1b2/renew", "DELETE /sessions/a1b2", "PUT /services/web/heartbeat", "DELETE /services/web":
			io.WriteString(w, `{"message":"done"}`)
		case "PUT /services/web":
			io.WriteString(w, `{"message":"service registered","name":"web","id":"web","modify_index":30}`)
		case "GET /services/web":
			w.Header().Set("X-Konsul-Index", "30")
			io.WriteString(w, `{"name":"web","instances":[{"id":"web","address":"10.0.0.7","port":80,"healthy":true}]}`)
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

// Leader election: every machine runs this, and one at a time leads. The work ends when
// the lock is lost, and what it writes elsewhere carries the fencing token, so that a
// leader which was paused, and does not know yet that there is another one, is refused.
func ExampleClient_Lock() {
	node := exampleNode()
	defer node.Close()
	c, _ := client.New(client.Config{Addresses: []string{node.URL}})

	lead := func(ctx context.Context, token uint64) {
		fmt.Println("leading with token", token, "-", ctx.Err())
	}
	ctx := context.Background()
	for range 1 { // a real one goes on until ctx ends
		lock, err := c.Lock(ctx, "leader/api", client.LockOptions{Value: []byte("host-7"), TTL: 10 * time.Second})
		if err != nil {
			fmt.Println(err) // ctx has ended, or the cluster cannot be asked: wait, and try again
			continue
		}
		lead(lock.Context(ctx), lock.Index)
		if err := lock.Unlock(context.WithoutCancel(ctx)); errors.Is(err, client.ErrLockLost) {
			fmt.Println("somebody else may have been leading at the end")
		}
	}
	// Output: leading with token 21 - <nil>
}

// Who leads is the holder of the key, and its value is what the leader wrote there.
func ExampleClient_Watch_leader() {
	node := exampleNode()
	defer node.Close()
	c, _ := client.New(client.Config{Addresses: []string{node.URL}})

	follow := func(ctx context.Context) error {
		for event, err := range c.Watch(ctx, client.WatchOptions{Key: "leader/api"}) {
			switch {
			case err != nil:
				return err
			case event.Type == client.EventPut && event.Entry.Session != "":
				fmt.Printf("%s leads, with token %d\n", event.Entry.Value, event.Entry.LockIndex)
			default:
				fmt.Println("nobody leads")
			}
		}
		return nil
	}
	_ = follow
}

// An instance that lives as long as the program.
func ExampleClient_KeepAlive() {
	node := exampleNode()
	defer node.Close()
	c, _ := client.New(client.Config{Addresses: []string{node.URL}})

	ctx := context.Background() // of signal.NotifyContext, in a real program
	registration, err := c.KeepAlive(ctx, client.Service{Name: "web", Address: "10.0.0.7", Port: 80, TTL: 30 * time.Second}, client.KeepAliveOptions{})
	if err != nil {
		panic(err)
	}
	fmt.Println(registration.ID, "is registered")
	fmt.Println(registration.Close(ctx))
	// Output:
	// web is registered
	// <nil>
}

// The healthy instances of a service, now and after every change.
func ExampleClient_WatchService() {
	node := exampleNode()
	defer node.Close()
	c, _ := client.New(client.Config{Addresses: []string{node.URL}})

	for instances, err := range c.WatchService(context.Background(), "web", client.Healthy()) {
		if err != nil {
			panic(err)
		}
		for _, i := range instances {
			fmt.Printf("%s at %s:%d\n", i.ID, i.Address, i.Port)
		}
		break
	}
	// Output: web at 10.0.0.7:80
}
