package raftstore

import "github.com/neogan74/konsul/internal/persistence"

var _ persistence.Exporter = (*Engine)(nil)

// ExportData implements persistence.Exporter.
func (e *Engine) ExportData() (map[string]any, error) {
	v, err := e.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return persistence.ExportData(v, e)
}

// ImportData implements persistence.Exporter; each batch is an entry of the log.
func (e *Engine) ImportData(data map[string]any) error { return persistence.ImportData(data, e) }
