package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Event is one event of a watch stream.
type Event struct {
	ID    uint64 // 0 if the event had no id line
	Type  string // put, delete, error, ...
	Data  string
	Entry Entry // of a put or a delete
}

// Stream is an open watch.
type Stream struct {
	Header http.Header
	body   io.ReadCloser
	r      *bufio.Reader
}

// Watch opens a watch; query is the whole query ("prefix=a&from=7"). An answer
// other than 200 is an *APIError. lastID > 0 is sent as Last-Event-ID.
func (c *Client) Watch(ctx context.Context, query string, lastID uint64) (*Stream, error) {
	var header []string
	if lastID > 0 {
		header = []string{"Last-Event-ID", strconv.FormatUint(lastID, 10)}
	}
	resp, err := c.open(ctx, http.MethodGet, "/watch?"+query, nil, header...)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return nil, (&Answer{"GET", "/watch?" + query, resp.StatusCode, resp.Header, b}).Err()
	}
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/event-stream") {
		resp.Body.Close()
		return nil, fmt.Errorf("watch: content type %q", ct)
	}
	return &Stream{resp.Header, resp.Body, bufio.NewReader(resp.Body)}, nil
}

// Close ends the watch.
func (s *Stream) Close() { _ = s.body.Close() }

// Next returns the next event, skipping comments. An event that the end of the
// connection cuts off is not returned, as the standard for event streams says.
func (s *Stream) Next() (Event, error) {
	var e Event
	var data []string
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return Event{}, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			if e.Type == "" && data == nil {
				continue
			}
			return finish(e, data)
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			if e.ID, err = strconv.ParseUint(value, 10, 64); err != nil {
				return e, fmt.Errorf("watch: id %q", value)
			}
		case "event":
			e.Type = value
		case "data":
			data = append(data, value)
		}
	}
}

func finish(e Event, data []string) (Event, error) {
	e.Data = strings.Join(data, "\n")
	if e.Type != "put" && e.Type != "delete" {
		return e, nil
	}
	if err := json.Unmarshal([]byte(e.Data), &e.Entry); err != nil {
		return e, fmt.Errorf("watch: %s event with data %.200q: %w", e.Type, e.Data, err)
	}
	return e, nil
}
