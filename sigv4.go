package main

// sigv4.go knows how AWS signs requests.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
)

// credentials are AWS credentials as SigV4 uses them; sessionToken is empty for long-lived keys.
type credentials struct{ accessKeyID, secretAccessKey, sessionToken string }

// authorization returns the value of the Authorization header that signs POST path, without a query, for AppSync.
// headers are name and value pairs, names in lower case, sorted; all of them are signed.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func (c credentials) authorization(region, amzDate, path string, headers [][2]string, body []byte) string {
	canonical, signed := "POST\n"+path+"\n\n", ""
	for _, h := range headers {
		canonical += h[0] + ":" + h[1] + "\n"
		signed = strings.TrimPrefix(signed+";"+h[0], ";")
	}
	canonical += "\n" + signed + "\n" + hexSHA256(body)
	day := amzDate[:min(8, len(amzDate))]
	scope := day + "/" + region + "/appsync/aws4_request"
	toSign := "AWS4-HMAC-SHA256\n" + amzDate + "\n" + scope + "\n" + hexSHA256([]byte(canonical))
	key := []byte("AWS4" + c.secretAccessKey)
	for _, s := range []string{day, region, "appsync", "aws4_request", toSign} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(s))
		key = mac.Sum(nil)
	}
	return fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", c.accessKeyID, scope, signed, key)
}

// hexSHA256 is the hash of b as SigV4 writes it.
func hexSHA256(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
