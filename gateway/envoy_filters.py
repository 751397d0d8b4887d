"""The filters of the edge, in the order in which a request meets them, and what the edge itself answers and logs."""

import re
from pathlib import Path
from typing import Any

from gateway.edge_api import EdgeApi
from libs.config import GatewaySection

Json = dict[str, Any]

AUDIENCE = "quintet"
PROVIDER = "node"
JWKS_PATH = "/.well-known/jwks.json"
JWKS_TIMEOUT_S = 2
# identity publishes a new key for longer than this before it signs with it, so no good token is refused meanwhile.
JWKS_CACHE_S = 60
JWKS_RETRY_S = 1
BURST_FACTOR = 2
# Clients whose rate is remembered at once; the longest silent one is forgotten first.
CLIENTS_MAX = 10_000
# An IPv6 client commands a whole network of this size.
IPV6_CLIENT_BITS = 64
RESPONSE_BYTES_MAX = 16 * 1024 * 1024
CORS_MAX_AGE_S = 3_600
CORS_REQUEST_HEADERS = (
    *("authorization", "content-type", "grpc-timeout", "x-grpc-web", "x-user-agent", "traceparent", "tracestate"),
)
CORS_RESPONSE_HEADERS = (
    *("grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after"),
    *("content-disposition", "content-range", "etag", "location"),
)
# Answers that the edge gives by itself: HTTP status, google.rpc code and the reason a client can rely on.
LOCAL_REPLIES = (
    (400, 3, "REQUEST_MALFORMED"),
    (401, 16, "TOKEN_REFUSED"),
    (403, 7, "FORBIDDEN"),
    (404, 5, "NO_SUCH_METHOD"),
    (408, 4, "REQUEST_TIMEOUT"),
    (413, 8, "REQUEST_TOO_LARGE"),
    (415, 3, "CONTENT_TYPE_UNKNOWN"),
    (429, 8, "TOO_MANY_REQUESTS"),
    (431, 8, "HEADERS_TOO_LARGE"),
    (500, 13, "EDGE_FAILED"),
    (502, 14, "SERVICE_AWAY"),
    (503, 14, "SERVICE_AWAY"),
    (504, 4, "SERVICE_TIMEOUT"),
)


def typed(name: str, kind: str, config: Json) -> Json:
    """An extension with its configuration."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{kind}", **config}}


def cors() -> Json:
    return typed("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors", {})


def cors_policy(origins: tuple[str, ...]) -> Json:
    """Pages of these origins may call the API. Without cookies: tokens are sent by the page itself."""
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in origins],
        "allow_methods": "GET, POST, PUT, PATCH, DELETE",
        "allow_headers": ", ".join(CORS_REQUEST_HEADERS),
        "expose_headers": ", ".join(CORS_RESPONSE_HEADERS),
        "max_age": str(CORS_MAX_AGE_S),
        "allow_credentials": False,
        "forward_not_matching_preflights": False,
    }


def rate_limit(settings: GatewaySection, api: EdgeApi) -> Json:
    """One bucket for all, one per client, and a small one per client where passwords are tried."""
    client: Json = {"masked_remote_address": {"v6_prefix_mask_len": IPV6_CLIENT_BITS}}
    rate_limits = [{"actions": [client]}]
    descriptors = [_limit([{"key": "masked_remote_address"}], settings.client_requests_per_s, "1s")]
    if api.password_paths:
        # The query is part of the header: a bare question mark must not be a way around.
        paths = "(" + "|".join(re.escape(path) for path in api.password_paths) + r")/?([?#].*)?"
        rate_limits.append({"actions": [_path_matches(paths, "sign-in"), client]})
        entries = [{"key": "header_match", "value": "sign-in"}, {"key": "masked_remote_address"}]
        descriptors.append(_limit(entries, settings.sign_in_per_minute, "60s"))
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return typed(
        "envoy.filters.http.local_ratelimit",
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        {
            "stat_prefix": "edge",
            "token_bucket": _bucket(settings.requests_per_s, "1s"),
            "filter_enabled": always,
            "filter_enforced": always,
            "rate_limits": rate_limits,
            "descriptors": descriptors,
            "max_dynamic_descriptors": CLIENTS_MAX,
            "rate_limited_as_resource_exhausted": True,
            "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
        },
    )


def jwt(node: str, jwks_cluster: str, api: EdgeApi) -> Json:
    """A bad token is refused here. A missing one passes: the service knows which of its methods are public."""
    return typed(
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        {
            "providers": {
                PROVIDER: {
                    "issuer": f"nodes/{node}",
                    "audiences": [AUDIENCE],
                    "forward": True,  # the service verifies it again: the edge is not the only way in
                    "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
                    "remote_jwks": {
                        "http_uri": {
                            "uri": f"http://{jwks_cluster}{JWKS_PATH}",
                            "cluster": jwks_cluster,
                            "timeout": f"{JWKS_TIMEOUT_S}s",
                        },
                        "cache_duration": f"{JWKS_CACHE_S}s",
                        # The edge opens when the keys have been asked for: until then it would refuse good tokens.
                        "async_fetch": {"fast_listener": False, "failed_refetch_duration": f"{JWKS_RETRY_S}s"},
                    },
                }
            },
            "bypass_cors_preflight": True,
            "rules": [
                *({"match": {"path": path}} for path in api.session_paths),
                {
                    "match": {"prefix": "/"},
                    "requires": {
                        "requires_any": {"requirements": [{"provider_name": PROVIDER}, {"allow_missing": {}}]}
                    },
                },
            ],
        },
    )


def body_limit(max_bytes: int) -> Json:
    return typed(
        "envoy.filters.http.buffer", "envoy.extensions.filters.http.buffer.v3.Buffer", {"max_request_bytes": max_bytes}
    )


def no_body_limit() -> Json:
    return {"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute", "disabled": True}


def grpc_web() -> Json:
    return typed("envoy.filters.http.grpc_web", "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", {})


def transcoder(descriptors: Path, api: EdgeApi, max_request_bytes: int) -> Json:
    """REST to gRPC. A query parameter that the API does not know is refused: a misspelt filter must not mean "all".

    Unknown fields of a JSON body are dropped: Envoy's translator has no option to refuse them.
    """
    return typed(
        "envoy.filters.http.grpc_json_transcoder",
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        {
            "proto_descriptor": str(descriptors),
            "services": list(api.services),
            "auto_mapping": False,
            "convert_grpc_status": True,
            "ignore_unknown_query_parameters": False,
            "query_param_unescape_plus": True,
            "max_request_body_size": max_request_bytes,
            "max_response_body_size": RESPONSE_BYTES_MAX,
            "request_validation_options": {
                "reject_unknown_query_parameters": True,
                "reject_binding_body_field_collisions": True,
            },
            "print_options": {
                "always_print_primitive_fields": True,
                "always_print_enums_as_ints": False,
                "preserve_proto_field_names": False,
                "stream_newline_delimited": True,
            },
        },
    )


def router() -> Json:
    return typed(
        "envoy.filters.http.router",
        "envoy.extensions.filters.http.router.v3.Router",
        {"suppress_envoy_headers": True},
    )


def access_log(path: Path) -> Json:
    """One JSON object per request. Never headers that carry tokens, nor the query, which may hold personal data."""
    fields = {
        "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
        "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
        "path": "%PATH(NQ:ORIG_OR_PATH)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "service": "%UPSTREAM_CLUSTER%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "request_bytes": "%BYTES_RECEIVED%",
        "response_bytes": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "traceparent": "%REQ(TRACEPARENT)%",
    }
    return typed(
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        {"path": str(path), "log_format": {"json_format": fields, "omit_empty_values": True}},
    )


def local_replies() -> Json:
    """The edge's own answers look like the services': a google.rpc.Status with an ErrorInfo."""
    return {
        "mappers": [_local_reply(status, code, reason) for status, code, reason in LOCAL_REPLIES],
        "body_format": _status_body(2, "EDGE_REFUSED"),
    }


def _local_reply(status: int, code: int, reason: str) -> Json:
    comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": f"edge.reply.{status}"}}
    return {
        "filter": {"status_code_filter": {"comparison": comparison}},
        "body_format_override": _status_body(code, reason),
    }


def _status_body(code: int, reason: str) -> Json:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "quintet"}
    return {"json_format": {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": [info]}}


def _limit(entries: list[Json], tokens: int, interval: str) -> Json:
    return {"entries": entries, "token_bucket": _bucket(tokens, interval)}


def _bucket(tokens: int, interval: str) -> Json:
    return {"max_tokens": tokens * BURST_FACTOR, "tokens_per_fill": tokens, "fill_interval": interval}


def _path_matches(pattern: str, value: str) -> Json:
    headers = [{"name": ":path", "string_match": {"safe_regex": {"regex": pattern}}}]
    return {"header_value_match": {"descriptor_value": value, "headers": headers}}
