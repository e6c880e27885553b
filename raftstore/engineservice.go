package raftstore

import (
	"time"

	"github.com/neogan74/konsul/fsm/command"
	"github.com/neogan74/konsul/internal/persistence"
)

// The engine's services are instances whose id is the name, with data that is not
// interpreted. They live in cluster time, like all others.

// GetService implements persistence.Engine.
func (e *Engine) GetService(name string) ([]byte, error) {
	if err := persistence.CheckName(name); err != nil {
		return nil, err
	}
	v, err := e.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.GetService(name)
}

// SetService implements persistence.Engine.
func (e *Engine) SetService(name string, data []byte, ttl time.Duration) error {
	if err := persistence.CheckName(name); err != nil {
		return err
	}
	if err := persistence.CheckTTL(ttl); err != nil {
		return err
	}
	return e.propose(command.Type_TYPE_SERVICE_SET, &command.ServiceSet{Name: name, Id: name, Ttl: int64(ttl), Data: data})
}

// DeleteService implements persistence.Engine.
func (e *Engine) DeleteService(name string) error {
	if err := persistence.CheckName(name); err != nil {
		return err
	}
	return e.propose(command.Type_TYPE_SERVICE_DELETE, &command.ServiceDelete{Name: name}, command.Result_SERVICE_NOT_FOUND)
}

// ListServices implements persistence.Engine.
func (e *Engine) ListServices() ([]string, error) {
	v, err := e.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return v.ServiceNames()
}
