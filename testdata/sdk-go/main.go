// The AWS SDK for Go against the emulated Lambda at ENDPOINT: it makes the calls of ../frameworks/sdk.mjs,
// and prints the same lines.
package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
)

func main() {
	client := lambda.New(lambda.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(os.Args[1]),
		Credentials:  aws.AnonymousCredentials{},
	})
	context := base64.StdEncoding.EncodeToString([]byte(`{"c":1}`))
	invoke(client, lambda.InvokeInput{
		FunctionName: aws.String("orders:live"), Payload: []byte(`{"a":1}`), ClientContext: &context,
		LogType: types.LogTypeTail,
	})
	for _, event := range []string{`"fail"`, `"break"`, `{`} {
		invoke(client, lambda.InvokeInput{FunctionName: aws.String("orders"), Payload: []byte(event)})
	}
	for _, kind := range []types.InvocationType{"Event", "DryRun", "Later"} {
		invoke(client, lambda.InvokeInput{FunctionName: aws.String("orders"), InvocationType: kind})
	}
	invoke(client, lambda.InvokeInput{FunctionName: aws.String("other")})
	for _, event := range []string{`"stream"`, `"break"`, `"fail"`, `{`} {
		stream(client, event)
	}
}

func invoke(client *lambda.Client, input lambda.InvokeInput) {
	out, err := client.Invoke(context.Background(), &input)
	if err != nil {
		refused(err)
		return
	}
	print("invoke", fmt.Sprint(out.StatusCode), aws.ToString(out.ExecutedVersion),
		aws.ToString(out.FunctionError), string(out.Payload), starts(aws.ToString(out.LogResult)))
}

func stream(client *lambda.Client, event string) {
	out, err := client.InvokeWithResponseStream(context.Background(), &lambda.InvokeWithResponseStreamInput{
		FunctionName: aws.String("orders"), Payload: []byte(event), LogType: types.LogTypeTail,
	})
	if err != nil {
		refused(err)
		return
	}
	events := out.GetStream()
	defer events.Close()
	var answer []byte
	var end types.InvokeWithResponseStreamCompleteEvent
	for event := range events.Events() {
		switch e := event.(type) {
		case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
			answer = append(answer, e.Value.Payload...)
		case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
			end = e.Value
		}
	}
	if events.Err() != nil {
		fmt.Println("broken:", events.Err())
	}
	print("stream", fmt.Sprint(out.StatusCode), aws.ToString(out.ExecutedVersion), string(answer),
		aws.ToString(end.ErrorCode), aws.ToString(end.ErrorDetails), starts(aws.ToString(end.LogResult)))
}

func print(fields ...string) { fmt.Println(strings.Join(fields, "|")) }

// starts returns the word that a log begins with.
func starts(log string) string {
	text, _ := base64.StdEncoding.DecodeString(log)
	word, _, _ := strings.Cut(string(text), " ")
	return word
}

func refused(err error) {
	var api smithy.APIError
	if !errors.As(err, &api) {
		fmt.Println("no answer:", err)
		return
	}
	print("refused", api.ErrorCode(), api.ErrorMessage())
}
