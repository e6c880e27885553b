// Package jsonwire reads and writes JSON for the HTTP API, with bytes instead
// of strings and no reflection.
//
// Why not encoding/json: it turns invalid UTF-8 and lone surrogates into U+FFFD
// without an error, so a key or a value would be stored changed; it takes
// {"CAS":1} for {"cas":1} and the last of two equal names; and it costs more
// than the rest of a small request. This reader refuses all four (RFC 7493,
// I-JSON, asks for the same) and is fuzzed against encoding/json for the rest.
package jsonwire
