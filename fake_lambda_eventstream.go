//go:build !layer

package main

// fake_lambda_eventstream.go sends a streamed answer as InvokeWithResponseStream does: as messages of
// application/vnd.amazon.eventstream. The function's bytes come in; a PayloadChunk goes out for each part as
// it comes, and an InvokeComplete behind the last one.
//
// https://docs.aws.amazon.com/lambda/latest/api/API_InvokeWithResponseStream.html
// https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html

import (
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"net/http"
	"time"
)

// The encoding of a message. Numbers are big-endian.
// https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html
const (
	eventStreamType   = "application/vnd.amazon.eventstream"
	eventStreamFrame  = 4 + 4 + 4 + 4 // bytes of the two lengths and of the two checksums
	eventStreamString = 7             // the type of a header's value
)

// eventStreamMessage is one event: the lengths of all and of the headers, their checksum, the headers, the
// payload, and a checksum of all that.
func eventStreamMessage(eventType, contentType string, payload []byte) []byte {
	headers := eventStreamHeader(nil, ":event-type", eventType)
	headers = eventStreamHeader(headers, ":content-type", contentType)
	headers = eventStreamHeader(headers, ":message-type", "event")
	length := eventStreamFrame + len(headers) + len(payload)
	message := make([]byte, 0, length)
	message = binary.BigEndian.AppendUint32(message, uint32(length))
	message = binary.BigEndian.AppendUint32(message, uint32(len(headers)))
	message = binary.BigEndian.AppendUint32(message, crc32.ChecksumIEEE(message))
	message = append(message, headers...)
	message = append(message, payload...)
	return binary.BigEndian.AppendUint32(message, crc32.ChecksumIEEE(message))
}

// eventStreamHeader appends a header: its name with one byte of length, the type, the value with two.
func eventStreamHeader(headers []byte, name, value string) []byte {
	headers = append(headers, byte(len(name)))
	headers = append(headers, name...)
	headers = append(headers, eventStreamString)
	headers = binary.BigEndian.AppendUint16(headers, uint16(len(value)))
	return append(headers, value...)
}

// lambdaEventStream is the answer to one InvokeWithResponseStream.
type lambdaEventStream struct {
	w       http.ResponseWriter
	timeout time.Duration // the function's
}

// begin sends the headers. A caller that does not read must not hold the function, so there is a deadline.
func (s lambdaEventStream) begin() {
	s.w.Header().Set("Content-Type", eventStreamType)
	_ = http.NewResponseController(s.w).SetWriteDeadline(time.Now().Add(s.timeout))
	_ = http.NewResponseController(s.w).Flush()
}

// Write sends a part of the answer.
func (s lambdaEventStream) Write(p []byte) (int, error) {
	err := s.send("PayloadChunk", "application/octet-stream", p)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s lambdaEventStream) send(eventType, contentType string, payload []byte) error {
	_, err := s.w.Write(eventStreamMessage(eventType, contentType, payload))
	if err != nil {
		return err
	}
	return http.NewResponseController(s.w).Flush()
}

// complete ends the answer. If the function has failed, this says how: what was sent before cannot be taken
// back.
func (s lambdaEventStream) complete(result invokeResult) {
	complete := struct {
		ErrorCode    string `json:",omitempty"`
		ErrorDetails string `json:",omitempty"`
		LogResult    string `json:",omitempty"`
	}{
		ErrorCode: result.functionError,
		LogResult: lambdaLogResult(result.log),
	}
	if result.functionError != "" {
		complete.ErrorDetails = string(result.errorBody())
	}
	body, _ := json.Marshal(complete)
	_ = s.send("InvokeComplete", "application/json", body) // a caller that is gone needs none
	_ = http.NewResponseController(s.w).SetWriteDeadline(time.Time{})
}
