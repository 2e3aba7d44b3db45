//go:build !layer

package main

// aws_function.go knows one function as the AWS CLI tells it: its configuration, whether live-lambda can be
// attached to it, how to update it, and how to wait for that.

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// functionConfig is what matters here of a function's configuration.
// https://docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html
type functionConfig struct {
	FunctionName string
	FunctionArn  string // arn:aws:lambda:REGION:ACCOUNT:function:NAME
	Runtime      string // empty for a container image
	Role         string // ARN
	Handler      string
	PackageType  string // Zip or Image
	RevisionID   string // changes with every update

	State                      string // Pending until the function can be invoked
	StateReasonCode            string
	StateReason                string
	LastUpdateStatus           string // Successful, InProgress or Failed
	LastUpdateStatusReasonCode string
	LastUpdateStatusReason     string

	Architectures []string
	Layers        []struct{ Arn string }
	Environment   struct {
		Variables map[string]string
		Error     *struct{ ErrorCode string } // why there are no Variables
	}
	LoggingConfig          struct{ LogGroup string }
	SnapStart              struct{ ApplyOn string }
	CapacityProviderConfig json.RawMessage // of a function on Lambda Managed Instances
}

func (f *functionConfig) arch() string {
	if len(f.Architectures) == 0 {
		return "x86_64"
	}
	return f.Architectures[0]
}

// osOnly reports whether the function brings its own runtime.
func (f *functionConfig) osOnly() bool { return strings.HasPrefix(f.Runtime, "provided") }

// customRuntime is the Runtime of a function on a customer-managed one.
// https://docs.aws.amazon.com/lambda/latest/dg/cmr-using.html
const customRuntime = "custom"

// managedInstances reports whether the function runs on Lambda Managed Instances.
func (f *functionConfig) managedInstances() bool {
	provider := string(f.CapacityProviderConfig)
	return provider != "" && provider != "null"
}

// roleName is the end of the role's ARN, arn:aws:iam::ACCOUNT:role/PATH/NAME.
func (f *functionConfig) roleName() string { return f.Role[strings.LastIndexByte(f.Role, '/')+1:] }

// logGroup is the name of its log in CloudWatch Logs.
func (f *functionConfig) logGroup() string {
	return cmp.Or(f.LoggingConfig.LogGroup, "/aws/lambda/"+f.FunctionName)
}

// region is the one that the function runs in, empty if its ARN is none.
func (f *functionConfig) region() string {
	parts := strings.Split(f.FunctionArn, ":")
	if len(parts) < 4 {
		return ""
	}
	return parts[3]
}

// layers returns the ARNs of the function's layers, in a list that the caller may change.
func (f *functionConfig) layers() []string {
	arns := []string{}
	for _, l := range f.Layers {
		arns = append(arns, l.Arn)
	}
	return arns
}

// readable says why the configuration must not be written back.
func (f *functionConfig) readable() error {
	if f.Environment.Error == nil {
		return nil
	}
	return fmt.Errorf(
		"its variables cannot be read (%s), and an update would lose them; it takes kms:Decrypt on the "+
			"function's key", f.Environment.Error.ErrorCode)
}

// Runtimes without Amazon Linux 2 or later have no exec wrapper.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
var withoutWrapper = []string{
	"nodejs", "nodejs4.3", "nodejs4.3-edge", "nodejs6.10", "nodejs8.10",
	"python2.7", "python3.6", "python3.7",
	"java8",
	"dotnetcore1.0", "dotnetcore2.0", "dotnetcore2.1",
	"ruby2.5",
	"go1.x",
}

// fits says why live-lambda cannot be attached to the function.
func (f *functionConfig) fits() error {
	switch {
	case f.PackageType == "Image":
		return errors.New(
			"it is a container image, and images take no layers: copy the layer's files into the image, as " +
				"docs/DEPLOY.md shows under Container images")
	case slices.Contains(withoutWrapper, f.Runtime):
		return fmt.Errorf(
			"its runtime %s starts no wrapper (%s), so the function would not use the proxy: choose a "+
				"newer runtime first", f.Runtime, wrapperVariable)
	case goArch[f.arch()] == "":
		return fmt.Errorf(
			"its architecture %s is neither x86_64 nor arm64, and the layer has binaries for these only",
			f.arch())
	case f.remotelyDebugged():
		return errors.New("AWS Toolkit's remote debugging is at work on it, and sets layers and variables " +
			"back when it ends: end it first")
	}
	return f.readable()
}

// remotelyDebugged reports whether AWS Toolkit debugs the function at present. It sets the exec wrapper too,
// and a variable for its tunnel.
// https://github.com/aws/aws-toolkit-vscode/tree/master/packages/core/src/lambda/remoteDebugging
func (f *functionConfig) remotelyDebugged() bool {
	isDebugger := func(arn string) bool { return strings.Contains(arn, ":layer:LDKLayer") }
	_, tunnel := f.Environment.Variables["AWS_LDK_DESTINATION_TOKEN"]
	return tunnel || slices.ContainsFunc(f.layers(), isDebugger)
}

// maxUpdates is how many updates by others are waited for before this program gives up.
const maxUpdates = 5

// function reads a function's configuration when no update of it is under way.
func (a awsCLI) function(ctx context.Context, name string) (functionConfig, error) {
	for range maxUpdates {
		f, err := a.configuration(ctx, name)
		if err != nil {
			return functionConfig{}, err
		}
		switch {
		case f.State == "Pending":
			err = a.waitActive(ctx, name)
		case f.LastUpdateStatus == "InProgress":
			err = a.waitUpdated(ctx, name)
		default:
			return f, nil
		}
		if err != nil {
			return functionConfig{}, err
		}
	}
	return functionConfig{}, errors.New("it is being updated again and again; try later")
}

// configuration reads a function's configuration as it is.
func (a awsCLI) configuration(ctx context.Context, name string) (functionConfig, error) {
	var f functionConfig
	err := a.run(ctx, &f, nil, "lambda", "get-function-configuration", "--function-name", name)
	if hasCode(err, "ResourceNotFoundException") {
		err = fmt.Errorf(
			"%w; check the name, and the AWS CLI's region and profile; a Web Function takes no layer", err)
	}
	return f, err
}

// keysOf reads the keys that the functions which words stand for seal messages with. Who may read a
// function's configuration may develop it. Its error does not have what a function has.
func (a awsCLI) keysOf(ctx context.Context, words []string) ([]string, error) {
	err := checkWords(words)
	if err != nil {
		return nil, fmt.Errorf("--keys: %w", err)
	}
	names, err := a.pick(ctx, words, a.functionNames)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, name := range names {
		f, err := a.configuration(ctx, name)
		if err == nil {
			err = f.sealed()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", plainText(name), err)
		}
		keys = append(keys, f.Environment.Variables[keyVariable])
	}
	return keys, nil
}

// variablesOf reads a function's variables. Its error does not have any.
func (a awsCLI) variablesOf(ctx context.Context, name string) (map[string]string, error) {
	err := checkName(name)
	if err != nil {
		return nil, err
	}
	f, err := a.configuration(ctx, name)
	if err == nil {
		err = f.legible()
	}
	return f.Environment.Variables, err
}

// legible says why the function's variables are not known.
func (f *functionConfig) legible() error {
	if f.Environment.Error == nil {
		return nil
	}
	return fmt.Errorf("its variables cannot be read (%s): it takes kms:Decrypt on the function's key",
		f.Environment.Error.ErrorCode)
}

// sealed says why there is no key to take from the function.
func (f *functionConfig) sealed() error {
	if err := f.legible(); err != nil {
		return err
	}
	text := f.Environment.Variables[keyVariable]
	if text == "" {
		return fmt.Errorf("it has no %s: `live-lambda attach --seal` gives it one", keyVariable)
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(key) != keySize {
		return fmt.Errorf("its %s is not 32 bytes in unpadded base64url: `live-lambda attach --seal` "+
			"gives it "+
			"another", keyVariable)
	}
	return nil
}

func (a awsCLI) waitActive(ctx context.Context, name string) error {
	return a.run(ctx, nil, nil, "lambda", "wait", "function-active-v2", "--function-name", name)
}

func (a awsCLI) waitUpdated(ctx context.Context, name string) error {
	return a.run(ctx, nil, nil, "lambda", "wait", "function-updated-v2", "--function-name", name)
}

// settled waits until an update is active, and says why if it will not be.
func (a awsCLI) settled(ctx context.Context, name string) error {
	waitErr := a.waitUpdated(ctx, name)
	if waitErr == nil {
		return nil
	}
	f, err := a.configuration(ctx, name)
	if err == nil && f.LastUpdateStatus == "Failed" {
		return fmt.Errorf("updated, and then the update failed: %s", plainText(f.LastUpdateStatusReason))
	}
	return fmt.Errorf("updated, but not known to be active: %w", waitErr)
}

// setConfiguration sets a function's layers and variables, if its revision is still the given one. The
// variables go through standard input, which other users of this machine cannot see, and in ASCII, so that no
// locale matters.
// https://docs.aws.amazon.com/lambda/latest/api/API_UpdateFunctionConfiguration.html
func (a awsCLI) setConfiguration(
	ctx context.Context, name, revision string, layers []string, variables map[string]string,
) error {
	layersJSON, _ := json.Marshal(layers) // strings always marshal
	environment, _ := json.Marshal(map[string]any{"Variables": variables})
	return a.run(ctx, nil, asciiJSON(environment), "lambda", "update-function-configuration",
		"--function-name", name,
		"--revision-id", revision,
		"--layers", string(layersJSON),
		"--environment", "file:///dev/stdin")
}
