"""Runs a Python handler: a client of Lambda's Runtime API for Python 3.9 and later, with nothing to install.

live-lambda runs main, in the function's directory. It loads the handler that _HANDLER names, asks for one
event after another, and answers each with what the handler returns or raises:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
With --check it only loads the handler, and says whether that works.

A handler is to see what it sees on Lambda: what AWS documents, and else what AWS's own client does, which is
https://github.com/aws/aws-lambda-python-runtime-interface-client 4.0.1 with simplejson 3.20. It differs on
purpose in these:
- AWS's client writes lines of its own to the log, with carriage returns in place of line feeds. This one
  prints what the handler prints, and the trace of an error that nobody has caught, as Python would.
- Its own frames are left out of traces.
- AWS's client dies if a response is refused, because it is too large for instance. This one goes on.
- The types of errors go into a header as well.
- There are no SnapStart hooks, and there is one event at a time.

It starts in little more time than an empty file does. So what takes long to import is imported in the
functions that need it. And the program, which local_code.go has, does no more than import this file and run
main: Python keeps what it compiles of a module, not of a program.
"""

import _socket  # the socket module itself takes more time than all the rest here, for what is not needed
import importlib
import os
import sys
import time
from importlib.machinery import PathFinder

# Lambda drops the X-Ray cause of an error if it is longer, and so does AWS's client.
MAX_XRAY_CAUSE = 1024 * 1024

# The invocation that runs, or ran last, for what the handler logs.
request_id = None
tenant_id = None


def main():
    # A handler that looks at __main__ finds no names of this file, and children of multiprocessing, which
    # import __main__ again, do not come here.
    sys.modules["__main__"] = type(sys)("__main__")
    check = sys.argv[1:] == ["--check"]
    del sys.argv[1:]
    set_environment()
    set_output()
    set_path()
    sys.meta_path.insert(0, OwnModules())
    if "logging" in sys.modules:  # a .pth file or a debugger has loaded it
        set_logging(sys.modules["logging"])
    api = None if check else RuntimeAPI(os.environ.get("AWS_LAMBDA_RUNTIME_API", ""))
    try:
        handler = load(os.environ.get("_HANDLER", ""))
    except Exception as error:
        print_load_error(error)
        if api:
            api.post_init_error(error)
        leave(1)
    except SystemExit as error:
        if not check:
            raise
        print_load_error(Fault("Runtime.ExitError", exit_message(error), cause=error))
        leave(1)
    if check:
        leave(0)
    try:
        while True:
            invoke(handler, api)
    except Gone:
        leave(0)


def leave(status):
    """Ends the process at once. Threads that the handler has left are not waited for: Lambda freezes them."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed
            pass
    os._exit(status)


def fail(why):
    sys.stderr.write(f"local_python.py: {why}\n")
    leave(1)


# ---- what a handler finds when it is loaded


def set_environment():
    """Says which runtime this is. That name decides how responses are written, too: see ascii_only."""
    name = "AWS_Lambda_python%d.%d" % sys.version_info[:2]
    os.environ.setdefault("AWS_EXECUTION_ENV", name)


def set_path():
    """Puts the function's directory first, where Python has put this file's."""
    here = os.path.dirname(os.path.abspath(own_file()))
    own_path[:] = [entry for entry in sys.path if entry not in (here, "")]
    sys.path[:] = [os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd()] + own_path


def own_file():
    return main.__code__.co_filename


own_path = []  # sys.path without the function's directory


# What AWS's client has loaded before the handler, but for what Python has loaded by itself.
OWN_MODULES = frozenset((
    "collections contextlib copyreg decimal enum functools json keyword linecache logging math numbers"
    " operator re reprlib string textwrap threading token tokenize traceback types warnings weakref"
).split())


class OwnModules:
    """Finds these modules where Python has them, even if the function's directory has others of these names:
    those would come too late on Lambda. Logging is set up when somebody imports it, because most of the time
    that a handler takes to start would go into that.
    """

    def find_spec(self, name, path=None, target=None):
        if name not in OWN_MODULES:
            return None
        spec = PathFinder.find_spec(name, own_path)
        if name == "logging" and spec:
            execute = spec.loader.exec_module

            def execute_and_set(module):
                execute(module)
                set_logging(module)

            spec.loader.exec_module = execute_and_set
        return spec


def load(handler):
    """Returns the function that handler names: a module, with dots or slashes, and a name in it."""
    module_name, dot, name = handler.rpartition(".")
    if not dot:
        raise Fault(
            "Runtime.MalformedHandlerName",
            f"Bad handler '{handler}': not enough values to unpack (expected 2, got 1)",
        )
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict", f"Cannot use built-in module {module_name} as a handler module"
        )
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as error:
        raise Fault(
            "Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}", cause=error
        )
    except SyntaxError as error:
        trace = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        raise Fault(
            "Runtime.UserCodeSyntaxError",
            f"Syntax error in module '{module_name}': {error}",
            trace=[trace],
            cause=error,
        )
    try:
        return getattr(module, name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", f"Handler '{name}' missing on module '{module_name}'")


# ---- one invocation


def invoke(handler, api):
    """Runs the handler for the next event.

    SystemExit, KeyboardInterrupt and others that are no Exception end the process, as they do on Lambda.
    """
    global request_id, tenant_id
    headers, data = api.next()
    request_id = headers.get("lambda-runtime-aws-request-id", "")
    tenant_id = headers.get("lambda-runtime-aws-tenant-id") or None
    set_trace_id(headers.get("lambda-runtime-trace-id"))
    try:
        context = make_context(headers)
        event = read_event(data, headers.get("content-type"))
        response = handler(event, context)
        body, content_type = write_response(response)
    except Exception as error:
        print_error(error)
        api.post_error(error, headers)
    else:
        api.post_response(body, content_type, headers)


def set_trace_id(trace_id):
    if trace_id:
        os.environ["_X_AMZN_TRACE_ID"] = trace_id
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)


def read_event(data, content_type):
    """Returns what the handler gets. Only events of Lambda's own type are parsed."""
    if content_type != "application/json":
        return bytes(data)
    import json

    try:
        return json.loads(str(data, "utf-8"))
    except Exception as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}")


def write_response(response):
    """Returns the bytes, or the text, and the content type of what the handler has returned."""
    if isinstance(response, bytes):
        return response, "application/unknown"
    try:
        return to_json(response), "application/json"
    except Exception as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}")


# ---- the context: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html


class Fields:
    """An object with the attributes that its class names."""

    names = ()

    def __init__(self, values):
        for name in self.names:
            setattr(self, name, values.get(name))

    def __repr__(self):
        values = ",".join(f"{name}={getattr(self, name)}" for name in self.names)
        return f"{type(self).__name__}([{values}])"


class CognitoIdentity(Fields):
    names = ("cognito_identity_id", "cognito_identity_pool_id")


class Client(Fields):
    names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(Fields):
    names = ("custom", "env", "client")


class LambdaContext(Fields):
    names = (
        "aws_request_id",
        "log_group_name",
        "log_stream_name",
        "function_name",
        "memory_limit_in_mb",
        "function_version",
        "invoked_function_arn",
        "client_context",
        "identity",
        "tenant_id",
    )

    def get_remaining_time_in_millis(self):
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def log(self, message):
        """On Lambda each call makes an entry of the log, so it makes a line here."""
        write_line(str(message))


def make_context(headers):
    client_context = parse_header(headers.get("lambda-runtime-client-context"), "Client Context")
    if client_context is not None:
        client_context = ClientContext(client_context)
        if client_context.client is not None:
            client_context.client = Client(client_context.client)
    identity = parse_header(headers.get("lambda-runtime-cognito-identity"), "Cognito Identity")
    if identity is None:
        identity = {}
    context = LambdaContext({
        "aws_request_id": request_id,
        "log_group_name": os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME"),
        "log_stream_name": os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"),
        "function_name": os.environ.get("AWS_LAMBDA_FUNCTION_NAME"),
        "memory_limit_in_mb": os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        "function_version": os.environ.get("AWS_LAMBDA_FUNCTION_VERSION"),
        "invoked_function_arn": headers.get("lambda-runtime-invoked-function-arn", ""),
        "client_context": client_context,
        "identity": CognitoIdentity({
            "cognito_identity_id": identity.get("cognitoIdentityId"),
            "cognito_identity_pool_id": identity.get("cognitoIdentityPoolId"),
        }),
        "tenant_id": tenant_id,
    })
    context._epoch_deadline_time_in_ms = int(headers.get("lambda-runtime-deadline-ms", 0))
    return context


def parse_header(value, name):
    if not value:
        return None
    import json

    try:
        return json.loads(value)
    except Exception as error:
        raise Fault("Runtime.LambdaContextUnmarshalError", f"Unable to parse {name} JSON: {error}")


# ---- JSON, as simplejson writes it for AWS's client


# Only these: classes that derive from them may be named tuples.
PLAIN_TYPES = frozenset((str, int, float, bool, type(None)))


def to_json(value):
    import json
    from json import encoder

    escaped = ascii_only()
    if is_plain(value, 300):
        return json.dumps(value, ensure_ascii=escaped)
    quote = encoder.encode_basestring_ascii if escaped else encoder.encode_basestring
    return encode(value, quote, set())


def is_plain(value, depth):
    """Reports whether Python's own json, which is faster, writes the same as encode. It does not look deeper
    than depth: value may be circular.
    """
    if type(value) in PLAIN_TYPES:
        return True
    if depth == 0:
        return False
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                return False
            if type(item) not in PLAIN_TYPES and not is_plain(item, depth - 1):
                return False
        return True
    if type(value) in (list, tuple):
        for item in value:
            if type(item) not in PLAIN_TYPES and not is_plain(item, depth - 1):
                return False
        return True
    return False


def ascii_only():
    """Reports whether characters beyond ASCII are escaped: on Lambda they are not from Python 3.12 on."""
    name = os.environ.get("AWS_EXECUTION_ENV", "")
    minor = name[len("AWS_Lambda_python3."):]
    return not (name.startswith("AWS_Lambda_python3.") and minor.isdigit() and int(minor) >= 12)


def encode(value, quote, around):
    """Returns value as JSON. Strings are written by quote. around has the IDs of the objects around value.

    Unlike Python's own json, simplejson writes bytes as a string, and a named tuple, or whatever has an
    _asdict, as an object. AWS's client adds decimals. NaN and the infinities are written, although JSON has
    none.
    """
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bytes):
        return quote(str(value, "utf-8"))
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return encode_float(value)
    if id(value) in around:
        raise ValueError("Circular reference detected")
    around.add(id(value))
    text = encode_composite(value, quote, around)
    around.remove(id(value))
    return text


def encode_composite(value, quote, around):
    fields = as_dict(value)
    if fields is not None:
        return encode_dict(fields, quote, around)
    if isinstance(value, (list, tuple)):
        items = []
        for item in value:
            items.append(encode(item, quote, around))
        return "[" + ", ".join(items) + "]"
    if isinstance(value, dict):
        return encode_dict(value, quote, around)
    decimal = sys.modules.get("decimal")  # without it there are no decimals
    if decimal and isinstance(value, decimal.Decimal):
        return "NaN" if value.is_nan() else str(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def as_dict(value):
    """Returns the fields of a named tuple, and None of anything else."""
    if type(value) in (dict, list, tuple):
        return None
    method = getattr(value, "_asdict", None)
    if not callable(method):
        return None
    try:
        fields = method()
    except TypeError:  # it is another method, with parameters
        return None
    if not isinstance(fields, dict):
        raise TypeError(f"_asdict() must return a dict, not {type(fields).__name__}")
    return fields


def encode_dict(value, quote, around):
    items = []
    for key, item in value.items():
        items.append(quote(encode_key(key)) + ": " + encode(item, quote, around))
    return "{" + ", ".join(items) + "}"


def encode_key(key):
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return str(key, "utf-8")
    if key is None or isinstance(key, (int, float)):
        return encode(key, None, None)
    raise TypeError(f"keys must be str, int, float, bool or None, not {type(key).__name__}")


def encode_float(value):
    if value != value:
        return "NaN"
    if value == float("inf"):
        return "Infinity"
    if value == -float("inf"):
        return "-Infinity"
    return float.__repr__(value)


# ---- errors: https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html


class Fault(Exception):
    """An error of the runtime's own, such as a handler that does not exist."""

    def __init__(self, error_type, message, trace=(), cause=None):
        super().__init__(message)
        self.error_type = error_type
        self.trace = list(trace)
        self.cause = cause  # the exception to show to the developer, None if that would say nothing new


def exit_message(error):
    """What Lambda says of a process that has exited."""
    if error.code is None or error.code == 0:
        return "Runtime exited without providing a reason"
    status = error.code if isinstance(error.code, int) else 1
    return f"Runtime exited with error: exit status {status & 255}"


def error_type_of(error):
    return error.error_type if isinstance(error, Fault) else type(error).__name__


def stack_of(error):
    """Returns the frames of an error as Lambda tells them: file, line, function, source."""
    if isinstance(error, Fault):
        return []
    import traceback

    frames = traceback.extract_tb(without_own_frames(error.__traceback__))
    return [(frame.filename, frame.lineno, frame.name, frame.line) for frame in frames]


def without_own_frames(tb):
    """Returns a traceback from the first frame that is not this file's."""
    while tb and tb.tb_frame.f_code.co_filename == own_file():
        tb = tb.tb_next
    return tb


def without_import_frames(tb):
    """Returns a traceback from the first frame that is not Python's import of the handler's module."""
    tb = without_own_frames(tb)
    while tb:
        file = tb.tb_frame.f_code.co_filename
        if not file.startswith("<frozen importlib") and file != importlib.__file__:
            return tb
        tb = tb.tb_next
    return None


def message_of(error):
    try:
        return str(error)
    except Exception:  # its __str__ fails: the caller is to have the rest
        return ""


def working_directory():
    try:
        return os.getcwd()
    except OSError:  # the handler has removed it
        return ""


def error_json(error, of_request):
    """Returns the body of an error."""
    if isinstance(error, Fault):
        trace = error.trace
    else:
        import traceback

        trace = traceback.format_list(stack_of(error))
    return to_json({
        "errorMessage": message_of(error),
        "errorType": error_type_of(error),
        "requestId": of_request,
        "stackTrace": trace,
    })


def xray_cause(error):
    """Returns the error as X-Ray shows it in a trace of the function."""
    stack = []
    for file, line, function, _ in stack_of(error):
        stack.append({"label": function, "path": file, "line": line})
    name = "LambdaValidationError" if isinstance(error, Fault) else type(error).__name__
    cause = {
        "working_directory": working_directory(),
        "exceptions": [{"message": message_of(error), "type": name, "stack": stack}],
        "paths": list(dict.fromkeys(frame["path"] for frame in stack)),
    }
    import json

    text = json.dumps(cause)  # ASCII, because it goes into a header
    return text if len(text) < MAX_XRAY_CAUSE else ""


def print_error(error):
    """Prints what the handler has raised, as Python does if nobody catches it."""
    if isinstance(error, Fault):
        print_error_line(error)
    else:
        print_trace(error, without_own_frames(error.__traceback__))


def print_load_error(error):
    """Prints why the handler cannot be loaded: a line with Lambda's error type, and the trace."""
    print_error_line(error)
    cause = error.cause if isinstance(error, Fault) else error
    if cause:
        print_trace(cause, without_import_frames(cause.__traceback__))


def print_error_line(error):
    message = " ".join(message_of(error).splitlines())
    sys.stderr.write(f"{error_type_of(error)}: {message}\n")


def print_trace(error, tb):
    import traceback

    sys.stderr.write("".join(traceback.format_exception(type(error), error, tb)))


# ---- the Runtime API


class Gone(Exception):
    """The other side has closed the connection: this process is to end."""


class RuntimeAPI:
    """One connection to the Runtime API, for one request after another.

    It is HTTP/1.1 to a server on this machine that always says how long its answers are. Python's http.client
    would take longer to load than Python itself.
    """

    def __init__(self, address):
        self.address = address
        self.socket = None

    def next(self):
        """Returns the headers and the body of the next event."""
        status, headers, body = self.call("GET", "invocation/next")
        if status != 200:
            text = body.decode("utf-8", "replace").strip()
            fail(f"ask the Runtime API for the next event: got status {status}: {text}")
        return headers, body

    def post_response(self, body, content_type, request):
        if isinstance(body, str):
            # Half of a surrogate pair has no UTF-8. On Lambda, too, this ends the process.
            body = body.encode("utf-8")
        self.post(request, "response", {"Content-Type": content_type}, body)

    def post_error(self, error, request):
        cause = xray_cause(error)
        headers = self.error_headers(error)
        if cause:
            headers["Lambda-Runtime-Function-XRay-Error-Cause"] = cause
        self.post(request, "error", headers, error_json(error, request_id).encode("utf-8"))

    def post_init_error(self, error):
        try:
            self.call("POST", "init/error", self.error_headers(error), error_json(error, "").encode("utf-8"))
        except Gone:
            pass  # the process ends in any case

    def error_headers(self, error):
        error_type = "".join(c if " " <= c <= "~" else "?" for c in error_type_of(error))
        return {"Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": error_type}

    def post(self, request, what, headers, body):
        """Answers a request. If the answer is refused, the caller is told, and nothing is to be done here."""
        invocation_id = request.get("lambda-runtime-invocation-id")
        if invocation_id:
            headers["Lambda-Runtime-Invocation-Id"] = invocation_id
        self.call("POST", f"invocation/{request_id}/{what}", headers, body)

    def call(self, method, path, headers=None, body=b""):
        """Makes a request, and returns the status, the headers and the body of what comes back."""
        if not self.socket:
            self.connect()
        version = "%d.%d.%d" % sys.version_info[:3]
        lines = [
            f"{method} /2018-06-01/runtime/{path} HTTP/1.1",
            f"Host: {self.address}",
            f"User-Agent: live-lambda-python/{version}",
        ]
        for name, value in (headers or {}).items():
            lines.append(f"{name}: {value}")
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        try:
            self.socket.sendall(head.encode("utf-8") + body)
            return self.receive()
        except ConnectionError:
            raise Gone

    def connect(self):
        host, _, port = self.address.rpartition(":")
        self.socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self.socket.settimeout(None)  # the handler may have set another default
        try:
            self.socket.connect((host, int(port)))
        except (OSError, ValueError) as error:
            fail(f"connect to the Runtime API, AWS_LAMBDA_RUNTIME_API={self.address}: {error}")
        self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)

    def receive(self):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.socket.recv(64 * 1024)
            if not piece:
                raise Gone
            data += piece
        head, _, start = data.partition(b"\r\n\r\n")
        lines = head.decode("utf-8", "replace").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self.receive_body(start, int(headers["content-length"]))

    def receive_body(self, start, length):
        body = bytearray(length)
        body[: len(start)] = start
        view = memoryview(body)
        have = len(start)
        while have < length:
            size = self.socket.recv_into(view[have:])
            if size == 0:
                raise Gone
            have += size
        return body


# ---- what a handler prints and logs


class Unbuffered:
    """A stream that passes on whatever is written to it at once, so that what is printed and what is written
    to standard error come out in order, and nothing is lost with the process. Lambda has one, too.
    """

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        count = self.stream.write(text)
        self.stream.flush()
        return count

    def writelines(self, lines):
        self.stream.writelines(lines)
        self.stream.flush()


def set_output():
    """Has standard output and standard error written at once, and in UTF-8 whatever the locale is."""
    sys.stdout.reconfigure(encoding="utf-8")
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stdout = Unbuffered(sys.stdout)
    sys.stderr = Unbuffered(sys.stderr)


def write_line(text):
    """Writes what is one entry of the log on Lambda. It goes to standard output, as it does with AWS's client
    outside Lambda. So logging and printing stay in order, even if a handler redirects its output.
    """
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def set_logging(logging):
    """Gives the root logger the handler that it has on Lambda. So logging.basicConfig does nothing, as there.

    https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
    """

    class LambdaLoggerHandler(logging.Handler):
        def emit(self, record):
            write_line(self.format(record))

    class LambdaLoggerFilter(logging.Filter):
        def filter(self, record):
            record.aws_request_id = request_id or ""
            record.tenant_id = tenant_id
            return True

    class JsonFormatter(logging.Formatter):
        def format(self, record):
            return log_json(self, logging, record)

    logging.Formatter.converter = time.gmtime
    handler = LambdaLoggerHandler()
    handler.addFilter(LambdaLoggerFilter())
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        handler.setFormatter(JsonFormatter(datefmt="%Y-%m-%dT%H:%M:%SZ"))
    else:
        handler.setFormatter(logging.Formatter(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n",
            "%Y-%m-%dT%H:%M:%S",
        ))
    root = logging.getLogger()
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    if level == "TRACE":
        level = "DEBUG"
    if isinstance(logging.getLevelName(level), int):  # otherwise there is no such level
        root.setLevel(level)
    root.addHandler(handler)


# What every record of logging has; all else was given by the handler, as extra, and is written as it is.
USUAL_FIELDS = frozenset((
    "name msg args levelname levelno pathname filename module exc_info exc_text stack_info lineno funcName"
    " created msecs relativeCreated thread threadName processName process aws_request_id tenant_id"
).split())


def log_json(formatter, logging, record):
    """Returns a record as a line of JSON.

    https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html#python-logging-advanced-json
    """
    import json
    import traceback

    level = min(50, max(0, record.levelno)) // 10 * 10
    fields = {
        "timestamp": formatter.formatTime(record, formatter.datefmt),
        "level": logging.getLevelName(level),
        "message": record.getMessage(),
        "logger": record.name,
    }
    if record.exc_info and record.exc_info[0]:
        error_type, error, tb = record.exc_info
        fields["stackTrace"] = traceback.format_tb(tb)
        fields["errorType"] = error_type.__name__
        fields["errorMessage"] = str(error)
    fields["requestId"] = getattr(record, "aws_request_id", None)
    if record.exc_info:
        fields["location"] = f"{record.pathname}:{record.funcName}:{record.lineno}"
    fields["tenantId"] = getattr(record, "tenant_id", None)
    for name, value in record.__dict__.items():
        if name not in USUAL_FIELDS and name not in fields:
            fields[name] = value
    fields = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(fields, ensure_ascii=False)
