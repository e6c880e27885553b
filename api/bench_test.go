package api_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/neogan74/konsul/api"
	"github.com/neogan74/konsul/api/apitest"
	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence/record"
	"github.com/neogan74/konsul/raftstore"
)

// fixedView has one record for every key.
type fixedView struct {
	api.View
	kv *record.KV
}

func (v fixedView) Index() uint64                 { return 123456 }
func (v fixedView) KV([]byte) (*record.KV, error) { return v.kv, nil }
func (v fixedView) Close()                        {}

// stub is a node that does nothing, so that what is measured is the handlers.
func stub(b *testing.B) *api.Server {
	b.Helper()
	view := &fixedView{kv: &record.KV{Value: []byte(strings.Repeat("v", 256)), CreateIndex: 1, ModifyIndex: 123456}}
	res := &command.Result{Index: 123456, Succeeded: true, Results: []*command.OpResult{{CreateIndex: 1, ModifyIndex: 123456}}}
	return api.NewServer(api.Config{}, &apitest.Node{
		Node: apitest.NewLocal(b),
		ViewFunc: func(context.Context, raftstore.ReadOptions) (api.View, raftstore.ReadInfo, error) {
			return view, raftstore.ReadInfo{Index: 123456, Leader: "n1"}, nil
		},
		ApplyFunc: func(context.Context, proto.Message, string) (*command.Result, error) { return res, nil },
	}, &apitest.Cluster{})
}

// discard is a ResponseWriter that keeps nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

func benchmark(b *testing.B, h http.Handler, method, target, contentType, body string) {
	b.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("Content-Type", contentType)
	w := &discard{http.Header{}}
	reader := strings.NewReader(body)
	r.Body, r.ContentLength = io.NopCloser(reader), int64(len(body))
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		clear(w.h)
		h.ServeHTTP(w, r)
	}
}

func BenchmarkNothing(b *testing.B) {
	benchmark(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }), http.MethodGet, "/kv/a", "", "")
}

func BenchmarkGet(b *testing.B) {
	benchmark(b, stub(b), http.MethodGet, "/kv/some/key", "", "")
}

func BenchmarkGetStale(b *testing.B) {
	benchmark(b, stub(b), http.MethodGet, "/kv/some/key?consistency=stale", "", "")
}

func BenchmarkPutRaw(b *testing.B) {
	benchmark(b, stub(b), http.MethodPut, "/kv/some/key", "application/octet-stream", strings.Repeat("v", 256))
}

func BenchmarkPutJSON(b *testing.B) {
	benchmark(b, stub(b), http.MethodPut, "/kv/some/key", "application/json", `{"value":"`+strings.Repeat("v", 256)+`","cas":7}`)
}
