package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Code is the kind of an Error. It is what travels; the HTTP code follows.
type Code string

// The codes.
const (
	// NotFound: no such object.
	NotFound Code = "NotFound"
	// Invalid: the request can never be right. Details name the fields.
	Invalid Code = "Invalid"
	// Refused: the request is well formed and the rules say no.
	Refused Code = "Refused"
	// Unavailable: not now, for instance because the journal cannot be written.
	Unavailable Code = "Unavailable"
	// Forbidden: the caller may not call.
	Forbidden Code = "Forbidden"
	// Internal: an error of ours.
	Internal Code = "Internal"
	// UnknownEndpoint: server and client are of different versions.
	UnknownEndpoint Code = "UnknownEndpoint"
)

var httpCodes = map[Code]int{
	NotFound:        http.StatusNotFound,
	Invalid:         http.StatusUnprocessableEntity,
	Refused:         http.StatusConflict,
	Unavailable:     http.StatusServiceUnavailable,
	Forbidden:       http.StatusForbidden,
	Internal:        http.StatusInternalServerError,
	UnknownEndpoint: http.StatusNotImplemented,
}

// Error is an error that keeps its kind across the socket.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Details, one a line: field: what is wrong: what to do.
	Details []string `json:"details,omitempty"`
}

func (e *Error) Error() string {
	s := e.Message
	for _, d := range e.Details {
		s += "\n  " + d
	}
	return s
}

// Errorf makes an Error of a kind.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// InvalidError makes an Invalid Error with its details.
func InvalidError(message string, details ...string) *Error {
	return &Error{Code: Invalid, Message: message, Details: details}
}

// CodeOf is the kind of err: that of the Error it wraps, else Internal. It is
// empty for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return Internal
}

// asError is err as it travels. What is not an Error keeps its text: the caller
// is root or the user that runs serve, and needs it to put things right.
func asError(err error) *Error {
	if e, ok := err.(*Error); ok { //nolint:errorlint // a wrapped one keeps the words around it, below
		return e
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		return &Error{Code: e.Code, Message: err.Error()}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Errorf(Unavailable, "serve is stopping, or the request took too long: %v", err)
	}
	return Errorf(Internal, "%v", err)
}
