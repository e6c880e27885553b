// Package api is the HTTP face of a node: http-api.md, endpoint by endpoint.
//
// A request's way: Server.ServeHTTP finds the route (keys by hand, the rest with
// chi), Server.run counts it, admits it and catches panics, the handler fills a
// call's buffer, and call.fail maps an error to its answer with the one table in
// errors.go. Handlers know the node below only through the interfaces in node.go.
// See DESIGN.md.
package api
