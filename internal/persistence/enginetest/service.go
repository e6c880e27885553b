package enginetest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neogan74/konsul/internal/persistence"
)

func mustSetService(t *testing.T, e persistence.Engine, name, data string, ttl time.Duration) {
	t.Helper()
	if err := e.SetService(name, []byte(data), ttl); err != nil {
		t.Fatalf("SetService(%q): %v", name, err)
	}
}

func wantService(t *testing.T, e persistence.Engine, name, data string) {
	t.Helper()
	if got, err := e.GetService(name); err != nil || string(got) != data {
		t.Fatalf("GetService(%q) = %q, %v, want %q", name, got, err, data)
	}
}

func wantNoService(t *testing.T, e persistence.Engine, name string, want error) {
	t.Helper()
	if got, err := e.GetService(name); !errors.Is(err, want) {
		t.Fatalf("GetService(%q) = %q, %v, want %v", name, got, err, want)
	}
}

func wantServices(t *testing.T, e persistence.Engine, want ...string) {
	t.Helper()
	got, err := e.ListServices()
	if err != nil || got == nil || !slices.Equal(got, want) {
		t.Fatalf("ListServices = %q (nil: %v), %v, want %q", got, got == nil, err, want)
	}
}

func testService(t *testing.T, e persistence.Engine) {
	t.Helper()
	wantServices(t, e)
	wantNoService(t, e, "web", persistence.ErrServiceNotFound)
	if _, err := e.GetService("web"); err.Error() != "service not found" {
		t.Fatalf("the error's text is %q", err)
	}
	mustSetService(t, e, "web", `{"port":80}`, 0)
	wantService(t, e, "web", `{"port":80}`)
	mustSetService(t, e, "web", "\x00\xff", time.Hour)
	wantService(t, e, "web", "\x00\xff")
	mustSet(t, e, "web", "a key of that name is another thing")
	wantService(t, e, "web", "\x00\xff")
	for range 2 { // deleting what is absent is no error
		if err := e.DeleteService("web"); err != nil {
			t.Fatal(err)
		}
		wantNoService(t, e, "web", persistence.ErrServiceNotFound)
	}
	wantServices(t, e)
	wantList(t, e, "", "web")
}

func testListServices(t *testing.T, e persistence.Engine) {
	t.Helper()
	for _, name := range []string{"web", "a-b", "a", "B", "a.b", "a0"} {
		mustSetService(t, e, name, "x", 0)
	}
	wantServices(t, e, "B", "a", "a-b", "a.b", "a0", "web")
	if err := e.DeleteService("a"); err != nil {
		t.Fatal(err)
	}
	wantServices(t, e, "B", "a-b", "a.b", "a0", "web")
	wantService(t, e, "a-b", "x")
}

// awaitExpiry polls until a service has expired and returns how long that took.
func awaitExpiry(t *testing.T, e persistence.Engine, name string, since time.Time) time.Duration {
	t.Helper()
	for {
		_, err := e.GetService(name)
		took := time.Since(since)
		switch {
		case errors.Is(err, persistence.ErrServiceExpired):
			if err.Error() != "service expired" {
				t.Fatalf("the error's text is %q", err)
			}
			return took
		case err != nil:
			t.Fatal(err)
		case took > 10*time.Second:
			t.Fatal("it does not expire")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func testServiceTTL(t *testing.T, e persistence.Engine) {
	t.Helper()
	const ttl = 250 * time.Millisecond
	mustSetService(t, e, "stays", "x", 0)
	begin := time.Now()
	mustSetService(t, e, "web", "x", ttl)
	if took := awaitExpiry(t, e, "web", begin); took < ttl {
		t.Fatalf("it expired after %v, its ttl is %v", took, ttl)
	}
	wantServices(t, e, "stays")
	wantNoService(t, e, "web", persistence.ErrServiceExpired)
	if err := e.DeleteService("web"); err != nil {
		t.Fatal(err)
	}
	wantNoService(t, e, "web", persistence.ErrServiceNotFound)
	mustSetService(t, e, "web", "again", ttl)
	awaitExpiry(t, e, "web", time.Now())
	mustSetService(t, e, "web", "for ever", 0)
	wantService(t, e, "web", "for ever")
}

func testServiceRenewed(t *testing.T, e persistence.Engine) {
	t.Helper()
	const ttl = 500 * time.Millisecond
	for begin := time.Now(); time.Since(begin) < 2*ttl; time.Sleep(ttl / 10) {
		mustSetService(t, e, "web", "x", ttl)
	}
	last := time.Now()
	mustSetService(t, e, "web", "last", ttl)
	wantService(t, e, "web", "last")
	if took := awaitExpiry(t, e, "web", last); took < ttl {
		t.Fatalf("it expired after %v, its ttl is %v", took, ttl)
	}
}

func testServiceLimits(t *testing.T, e persistence.Engine) {
	t.Helper()
	for name, err := range map[string]error{
		"an empty name":    e.SetService("", nil, 0),
		"a slash":          e.SetService("a/b", nil, 0),
		"a long name":      e.SetService(strings.Repeat("n", persistence.MaxNameLen+1), nil, 0),
		"large data":       e.SetService("a", make([]byte, persistence.MaxServiceBytes), 0),
		"a negative ttl":   e.SetService("a", nil, -time.Second),
		"a tiny ttl":       e.SetService("a", nil, time.Millisecond),
		"a ttl of ages":    e.SetService("a", nil, persistence.MaxTTL+1),
		"get of no name":   second(e.GetService("")),
		"delete of a dash": e.DeleteService("a b"),
	} {
		if err == nil || errors.Is(err, persistence.ErrServiceNotFound) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	wantServices(t, e)
	mustSetService(t, e, strings.Repeat("n", persistence.MaxNameLen), "x", persistence.MaxTTL)
	mustSetService(t, e, "a", strings.Repeat("v", 60<<10), persistence.MinTTL)
}
