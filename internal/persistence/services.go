package persistence

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/neogan74/konsul/internal/persistence/record"
)

// services is the registry of an engine without a cluster: the same records as the
// state machine's, but the time is its own. It goes on from the time stored, as far
// as the process runs: so nothing expires early, whatever the wall clock does, and
// what was to expire while nobody had the engine open lives on for as long again.
// What has expired is not shown any more at once; it is removed by the next write to
// a service, and every tidyEvery.
type services struct {
	base    int64 // the time at opened
	opened  time.Time
	elapsed func(since time.Time) time.Duration

	stop    chan struct{}
	stopped sync.Once
	tidying bool // the goroutine runs; guarded by the engine's mu
	wg      sync.WaitGroup
}

const (
	// tidyEvery is how often what has expired is removed, and the time stored.
	tidyEvery = 5 * time.Second
	// maxTidied bounds what one write removes.
	maxTidied = 1024
)

// startServices begins to count time where the engine says it stood.
func (s *standalone) startServices() {
	s.opened, s.elapsed, s.stop = time.Now(), time.Since, make(chan struct{})
	v, err := s.db.View()
	if err != nil {
		return
	}
	defer v.Close()
	t, err := v.time()
	if err != nil {
		s.db.log.Error("reading the time of services", "error", err)
		return
	}
	s.base = t.Now
	if found, goOn, err := v.NextDue(DueKey(t.Swept, nil), maxTidied); err == nil && (found != nil || goOn != nil) {
		s.keepTidy()
	}
}

// stopServices ends the goroutine and stores the time. A second time does nothing.
func (s *standalone) stopServices() {
	s.stopped.Do(func() {
		close(s.stop)
		s.wg.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.tidying {
			s.tidy()
		}
	})
}

func (s *standalone) now() int64 { return s.base + int64(max(s.elapsed(s.opened), 0)) }

// keepTidy starts the goroutine that removes what has expired; mu is held, or nobody
// else has the engine yet.
func (s *standalone) keepTidy() {
	if s.tidying {
		return
	}
	s.tidying = true
	s.wg.Go(func() {
		ticker := time.NewTicker(tidyEvery)
		defer ticker.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-ticker.C:
				s.mu.Lock()
				s.tidy()
				s.mu.Unlock()
			}
		}
	})
}

// tidy is a write that does nothing else; mu is held.
func (s *standalone) tidy() {
	if err := s.change(func(*Tx, int64) error { return nil }); err != nil && !s.db.closed.Load() {
		s.db.log.Error("removing expired services", "error", err)
	}
}

// change is a write to services: it removes what has expired, and then does what fn
// does at this time; mu is held.
func (s *standalone) change(fn func(tx *Tx, now int64) error) error {
	return s.write(func(tx *Tx) error {
		now := s.now()
		if err := expireServices(tx, now); err != nil {
			return err
		}
		return fn(tx, now)
	})
}

// expireServices removes what is due by now and stores the time.
func expireServices(tx *Tx, now int64) error {
	t, err := tx.Time()
	if err != nil {
		return err
	}
	due, err := tx.Due(t.Swept+1, now, maxTidied+1)
	if err != nil {
		return err
	}
	t.Now, t.Swept = max(t.Now, now), max(t.Swept, now)
	if len(due) > maxTidied {
		t.Swept = due[maxTidied].Deadline - 1
		due = due[:maxTidied]
	}
	for _, d := range due {
		l, found, err := tx.Lease(d.Subject)
		switch {
		case err != nil:
			return err
		case !found:
			tx.DropDue(d.Deadline, d.Subject)
			continue
		case l.Deadline > now:
			if err := tx.MoveLease(d.Subject, l); err != nil {
				return err
			}
			continue
		}
		if err := tx.DropLease(d.Subject); err != nil {
			return err
		}
		if of, ok := ParseSubject(d.Subject); ok && of.Service != "" {
			tx.Delete(d.Subject)
			gone := l.Deadline + int64(GoneFor)
			if gone <= now {
				continue
			}
			if err := tx.SetLease(GoneKey(of.Service, of.Instance), gone); err != nil {
				return err
			}
		}
	}
	return tx.SetTime(t)
}

// CheckService checks what SetService is given against the limits.
func CheckService(name string, data []byte, ttl time.Duration) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if len(data) > MaxServiceBytes-serviceOverhead {
		return fmt.Errorf("%w: service %q: %d bytes, at most %d", ErrValueTooLarge, name, len(data), MaxServiceBytes-serviceOverhead)
	}
	if err := CheckTTL(ttl); err != nil {
		return fmt.Errorf("service %q: %w", name, err)
	}
	return nil
}

// serviceOverhead is what a service has besides its data: its name, twice, and the
// name of the node it was registered on.
const serviceOverhead = 512

// SetService implements Engine.
func (s *standalone) SetService(name string, data []byte, ttl time.Duration) error {
	if err := CheckService(name, data, ttl); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.change(func(tx *Tx, now int64) error { return setService(tx, now, name, data, ttl) })
	if err == nil && ttl > 0 {
		s.keepTidy()
	}
	return err
}

func setService(tx *Tx, now int64, name string, data []byte, ttl time.Duration) error {
	if err := tx.DropLease(GoneKey(name, name)); err != nil {
		return err
	}
	key := ServiceKey(name, name)
	rec := &record.Service{Name: name, Id: name, Data: data, Ttl: int64(ttl), CreateIndex: tx.Index(), ModifyIndex: tx.Index()}
	old, found, err := tx.Get(key)
	if err != nil {
		return err
	}
	if found {
		var before record.Service
		if err := decodeAt(key, old, &before); err != nil {
			return err
		}
		rec.CreateIndex = before.CreateIndex
	}
	if ttl > 0 {
		err = tx.SetLease(key, now+int64(ttl))
	} else {
		err = tx.DropLease(key)
	}
	if err != nil {
		return err
	}
	value, err := EncodeRecord(rec)
	if err != nil {
		return err
	}
	tx.Set(key, value)
	return nil
}

// GetService implements Engine.
func (s *standalone) GetService(name string) ([]byte, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	v, err := s.db.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.getService(name, s.now())
}

// ListServices implements Engine.
func (s *standalone) ListServices() ([]string, error) {
	v, err := s.db.View()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.serviceNames(s.now())
}

// DeleteService implements Engine.
func (s *standalone) DeleteService(name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.change(func(tx *Tx, _ int64) error {
		for _, prefix := range [][]byte{ServiceInstances(name), GoneInstances(name)} {
			err := tx.Scan(prefix, func(key, _ []byte) error {
				key = bytes.Clone(key)
				err := tx.DropLease(key)
				tx.Delete(key)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
