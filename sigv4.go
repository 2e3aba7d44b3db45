package main

// sigv4.go knows how AWS signs requests (Signature Version 4), as far as AppSync needs it: a POST without a
// query.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// credentials are AWS credentials.
type credentials struct {
	accessKeyID     string
	secretAccessKey string
	sessionToken    string // empty if the keys are long-lived
}

// authorization is the value of the Authorization header for a POST of body to path. The signature covers all
// of headers, whose names are in lower case. amzDate is the value of x-amz-date: YYYYMMDDTHHMMSSZ.
func (c credentials) authorization(
	region, amzDate, path string, headers map[string]string, body []byte,
) string {
	request, names := canonicalRequest(path, headers, body)
	scope := amzDate[:min(8, len(amzDate))] + "/" + region + "/appsync/aws4_request"
	toSign := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x",
		amzDate, scope, sha256.Sum256([]byte(request)))
	// Each HMAC is the key for the next one: first those of scope's four words, the last of which is what AWS
	// calls the signing key, then that of toSign.
	signature := []byte("AWS4" + c.secretAccessKey)
	for _, text := range append(strings.Split(scope, "/"), toSign) {
		mac := hmac.New(sha256.New, signature)
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	}
	return fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x",
		c.accessKeyID, scope, names, signature)
}

// canonicalRequest is the request as AWS writes it down to hash it, and the list of the headers' names in it.
// The line between the path and the headers is the query's, which is empty.
func canonicalRequest(path string, headers map[string]string, body []byte) (request, names string) {
	lines := ""
	sorted := slices.Sorted(maps.Keys(headers))
	for _, name := range sorted {
		lines += name + ":" + headers[name] + "\n"
	}
	names = strings.Join(sorted, ";")
	return fmt.Sprintf("POST\n%s\n\n%s\n%s\n%x", path, lines, names, sha256.Sum256(body)), names
}
