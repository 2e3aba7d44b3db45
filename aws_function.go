//go:build !layer

package main

// aws_function.go knows a function: its configuration as the AWS CLI prints it, whether live-lambda can be
// attached to it, and how to wait for an update of it.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// functionConfig is what matters here of a function's configuration.
// https://docs.aws.amazon.com/lambda/latest/api/API_FunctionConfiguration.html
type functionConfig struct {
	FunctionName, Runtime, Role, Handler, PackageType, RevisionID string
	State, LastUpdateStatus, LastUpdateStatusReason               string
	Architectures                                                 []string
	Layers                                                        []struct{ Arn string }
	Environment                                                   struct {
		Variables map[string]string
		Error     *struct{ ErrorCode string }
	}
	SnapStart              struct{ ApplyOn string }
	CapacityProviderConfig json.RawMessage // of a function on Lambda Managed Instances
}

func (f *functionConfig) arch() string {
	if len(f.Architectures) == 0 {
		return "x86_64"
	}
	return f.Architectures[0]
}

func (f *functionConfig) osOnly() bool { return strings.HasPrefix(f.Runtime, "provided") }

func (f *functionConfig) roleName() string { return f.Role[strings.LastIndexByte(f.Role, '/')+1:] }

func (f *functionConfig) layers() []string {
	arns := []string{}
	for _, l := range f.Layers {
		arns = append(arns, l.Arn)
	}
	return arns
}

// readable says why the configuration must not be written back.
func (f *functionConfig) readable() error {
	if e := f.Environment.Error; e != nil {
		return fmt.Errorf(
			"its variables cannot be read (%s), and an update would lose them; it takes kms:Decrypt on the "+
				"function's key", e.ErrorCode)
	}
	return nil
}

// Runtimes without Amazon Linux 2 or later have no exec wrapper.
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-modify.html#runtime-wrapper
var withoutWrapper = strings.
	Fields("nodejs nodejs4.3 nodejs4.3-edge nodejs6.10 nodejs8.10 python2.7 python3.6 python3.7 " +
		"java8 dotnetcore1.0 dotnetcore2.0 dotnetcore2.1 ruby2.5 go1.x")

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
	}
	return f.readable()
}

// function reads a function's configuration, when no update of it is under way.
func (a awsCLI) function(ctx context.Context, name string) (f functionConfig, err error) {
	for range 5 {
		f = functionConfig{}
		err = a.run(ctx, &f, nil, "lambda", "get-function-configuration", "--function-name", name)
		switch {
		case err != nil:
			return f, err
		case f.State == "Pending":
			err = a.run(ctx, nil, nil, "lambda", "wait", "function-active-v2", "--function-name", name)
		case f.LastUpdateStatus == "InProgress":
			err = a.waitUpdated(ctx, name)
		default:
			return f, nil
		}
		if err != nil {
			return f, err
		}
	}
	return f, errors.New("it is being updated again and again; try later")
}

func (a awsCLI) waitUpdated(ctx context.Context, name string) error {
	return a.run(ctx, nil, nil, "lambda", "wait", "function-updated-v2", "--function-name", name)
}

// settled waits until the update is active, and says why where it will not be.
func (a awsCLI) settled(ctx context.Context, name string) error {
	waitErr := a.waitUpdated(ctx, name)
	if waitErr == nil {
		return nil
	}
	var f functionConfig
	if err := a.run(
		ctx, &f, nil, "lambda", "get-function-configuration", "--function-name", name); err == nil &&
		f.LastUpdateStatus == "Failed" {
		return fmt.Errorf("updated, and then the update failed: %s", plainText(f.LastUpdateStatusReason))
	}
	return fmt.Errorf("updated, but not known to be active: %w", waitErr)
}
