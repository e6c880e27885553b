package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/neogan74/konsul/internal/persistence"
)

func exporter(t *testing.T, e persistence.Engine) persistence.Exporter {
	t.Helper()
	x, ok := e.(persistence.Exporter)
	if !ok {
		t.Fatalf("%T is no Exporter", e)
	}
	return x
}

// throughJSON is what a file would make of data.
func throughJSON(t *testing.T, data map[string]any) map[string]any {
	t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

func testExport(t *testing.T, e persistence.Engine) {
	t.Helper()
	x := exporter(t, e)
	empty := map[string]any{"kv": map[string]any{}, "services": map[string]any{}}
	if data, err := x.ExportData(); err != nil || !reflect.DeepEqual(data, empty) {
		t.Fatalf("an empty engine: %v, %v", data, err)
	}
	want := map[string]string{"binary": "\x00\xff", "empty": ""}
	for i, key := range OddKeys() {
		want[key] = fmt.Sprint(i)
	}
	for key, value := range want {
		mustSet(t, e, key, value)
	}
	if err := e.SetService("web", []byte(`{"name":"web","address":"10.0.0.1","port":8080}`), 0); err != nil {
		t.Fatal(err)
	}
	if err := e.SetService("raw", []byte("\xff"), 0); err != nil {
		t.Fatal(err)
	}
	data, err := x.ExportData()
	if err != nil {
		t.Fatal(err)
	}
	file := throughJSON(t, data)
	if kv := file["kv"].(map[string]any); kv["a"] != "0" || !reflect.DeepEqual(kv["binary"], map[string]any{"encoding": "base64", "value": "AP8="}) {
		t.Fatalf("a = %v, binary = %v", kv["a"], kv["binary"])
	}
	if web := file["services"].(map[string]any)["web"]; !reflect.DeepEqual(web, map[string]any{"name": "web", "address": "10.0.0.1", "port": 8080.0}) {
		t.Fatalf("web = %v", web)
	}
	for key := range want {
		if err := e.Delete(key); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(e.DeleteService("web"), e.DeleteService("raw")); err != nil {
		t.Fatal(err)
	}
	if err := x.ImportData(file); err != nil {
		t.Fatal(err)
	}
	for key, value := range want {
		wantValue(t, e, key, value)
	}
	again, err := x.ExportData()
	if err != nil || !reflect.DeepEqual(throughJSON(t, again), file) {
		t.Fatalf("exported again it is another file: %v", err)
	}
}

// An import larger than a batch, and one that is wrong somewhere: nothing is written then.
func testImport(t *testing.T, e persistence.Engine) {
	t.Helper()
	x := exporter(t, e)
	kv := map[string]any{}
	for i := range 2500 {
		kv[fmt.Sprintf("k%05d", i)] = "v"
	}
	kv["large"], kv["larger"], kv["largest"] = string(make([]byte, 400<<10)), string(make([]byte, 500<<10)), string(make([]byte, persistence.MaxValueLen))
	for name, bad := range map[string]map[string]any{
		"a number":        {"kv": map[string]any{"a": "1", "b": 2}},
		"a list":          {"kv": []any{}},
		"a section":       {"kvs": map[string]any{}},
		"no base64":       {"kv_base64": map[string]any{"!": "x"}},
		"an empty key":    {"kv": map[string]any{"a": "1", "": "x"}},
		"a large value":   {"kv": map[string]any{"a": "1", "b": string(make([]byte, persistence.MaxValueLen+1))}},
		"a bad name":      {"kv": map[string]any{"a": "1"}, "services": map[string]any{"w b": map[string]any{"port": 1}}},
		"a service of 1s": {"kv": map[string]any{"a": "1"}, "services": map[string]any{"web": 1}},
	} {
		if err := x.ImportData(bad); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	wantList(t, e, "")
	if err := x.ImportData(map[string]any{"kv": kv}); err != nil {
		t.Fatal(err)
	}
	keys, err := e.List("")
	if err != nil || len(keys) != len(kv) {
		t.Fatalf("%d keys, %v, want %d", len(keys), err, len(kv))
	}
}
