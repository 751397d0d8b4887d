"""The configuration of Envoy, the edge of a node: one listener, one virtual host, a cluster per service.

Everything is a plain function of its arguments; `deploy.runtime.envoy` writes the files and runs the server.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway import envoy_filters as filters
from gateway.edge_api import EdgeApi
from libs.config import PARTS, GatewaySection

Json = dict[str, Any]

ADAPTER = "adapter"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CONNECT_TIMEOUT_S = 2
HEADERS_TIMEOUT_S = 10
HEADERS_MAX = 100
HEADERS_KIB_MAX = 32
# Longer than the longest unary deadline of the API; a longer silence means that somebody is gone.
IDLE_TIMEOUT_S = 300
ADAPTER_TIMEOUT_S = 60
# Photos and files of events, whose bodies are larger than requests may be: the adapter limits each (adapters.evidence).
FILES_PATHS = {
    "POST": "/v1/zones/[^/]+/events/[^/]+/evidence",
    "GET": "/v1/zones/[^/]+/events/[^/]+/evidence/[^/]+/content",
}
FILES_TIMEOUT_S = 330
# A stream of readings or of news may be silent for long, and ends at the latest after this.
STREAM_S_MAX = 3_600
STREAMS_PER_CONNECTION_MAX = 100
CLUSTER_REQUESTS_MAX = 1_024
CLUSTER_RETRIES_MAX = 16
CONNECT_RETRIES_MAX = 2
BUFFER_BYTES_MAX = 1024 * 1024
WINDOW_BYTES = 256 * 1024
HEAP_BYTES_MAX = 512 * 1024 * 1024
TLS_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
# What a proxy in front would say of the client. Nobody stands in front of this edge, so it can only be made up.
UNTRUSTED_HEADERS = (
    *("forwarded", "x-real-ip", "x-request-id", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"),
    *("x-forwarded-proto", "x-forwarded-prefix", "x-forwarded-client-cert", "x-original-url", "x-rewrite-url"),
    *("x-envoy-original-path", "x-envoy-original-method"),
)


@dataclass(frozen=True, slots=True)
class EdgeFiles:
    """Files that Envoy reads (descriptors; clusters and tls, which it follows when they are replaced) and writes."""

    descriptors: Path
    clusters: Path
    tls: Path
    access_log: Path


def bootstrap(node: str, port: int, settings: GatewaySection, api: EdgeApi, files: EdgeFiles) -> Json:
    """The static part. There is no administration interface: who reaches one commands the edge."""
    return {
        "node": {"id": node, "cluster": "gateway"},
        "static_resources": {"listeners": [_listener(node, port, settings, api, files)]},
        "dynamic_resources": {"cds_config": {"path_config_source": {"path": str(files.clusters)}}},
        "overload_manager": _overload(settings),
        "layered_runtime": {"layers": [{"name": "static", "static_layer": {}}]},
    }


def clusters(services: Mapping[str, str], adapter: str) -> Json:
    """The addresses (host:port) behind the edge, as a file that Envoy follows. A part without one is away."""
    http2 = {"explicit_http_config": {"http2_protocol_options": _http2()}}
    http1: Json = {"explicit_http_config": {"http_protocol_options": {}}}
    found = [_cluster(part, services.get(part, ""), http2) for part in PARTS]
    found.append(_cluster(ADAPTER, adapter, http1))
    kind = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    return {"resources": [{"@type": kind, **cluster} for cluster in found]}


def tls_secret(cert: Path, key: Path) -> Json:
    """The certificate, as a file that Envoy follows: when the certificate's folder changes it reads both again."""
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                "name": "edge",
                "tls_certificate": {
                    "certificate_chain": {"filename": str(cert)},
                    "private_key": {"filename": str(key)},
                    "watched_directory": {"path": str(cert.parent)},
                },
            }
        ]
    }


def _listener(node: str, port: int, settings: GatewaySection, api: EdgeApi, files: EdgeFiles) -> Json:
    chain: Json = {
        "filters": [
            filters.typed(
                "envoy.filters.network.http_connection_manager",
                "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                _http_manager(node, settings, api, files),
            )
        ]
    }
    if settings.tls_cert is not None:
        chain["transport_socket"] = filters.typed(
            "envoy.transport_sockets.tls",
            "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            _tls(files),
        )
    return {
        "name": "edge",
        "address": {"socket_address": {"address": settings.host, "port_value": port}},
        # Otherwise two nodes of one machine could share a port without noticing.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": BUFFER_BYTES_MAX,
        "filter_chains": [chain],
    }


def _http_manager(node: str, settings: GatewaySection, api: EdgeApi, files: EdgeFiles) -> Json:
    return {
        "stat_prefix": "edge",
        "codec_type": "AUTO",
        "server_name": "quintet",
        # The edge decides who the client is by the connection alone.
        "use_remote_address": True,
        "xff_num_trusted_hops": 0,
        # Nobody is internal, whose x-envoy-* headers would steer retries and timeouts; an empty list means the default.
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
        "forward_client_cert_details": "SANITIZE",
        "early_header_mutation_extensions": [
            filters.typed(
                "envoy.http.early_header_mutation.header_mutation",
                "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                {"mutations": [{"remove": header} for header in UNTRUSTED_HEADERS]},
            )
        ],
        "preserve_external_request_id": False,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "idle_timeout": f"{IDLE_TIMEOUT_S}s",
            "max_headers_count": HEADERS_MAX,
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "http2_protocol_options": _http2(),
        "max_request_headers_kb": HEADERS_KIB_MAX,
        "request_headers_timeout": f"{HEADERS_TIMEOUT_S}s",
        "stream_idle_timeout": f"{IDLE_TIMEOUT_S}s",
        "request_timeout": f"{STREAM_S_MAX}s",
        "access_log": [filters.access_log(files.access_log)],
        "local_reply_config": filters.local_replies(),
        "route_config": _routes(settings, api),
        "http_filters": [
            filters.cors(),
            filters.rate_limit(settings, api),
            filters.jwt(node, ADAPTER, api),
            filters.body_limit(settings.max_request_bytes),
            filters.grpc_web(),
            filters.transcoder(files.descriptors, api, settings.max_request_bytes),
            filters.router(),
        ],
    }


def _routes(settings: GatewaySection, api: EdgeApi) -> Json:
    host: Json = {
        "name": "api",
        "domains": ["*"],
        "routes": [
            *({"match": {"path": path}, "direct_response": {"status": 404}} for path in api.closed),
            *(_grpc_route(part) for part in PARTS),
            # Health, reflection and whatever else the services offer each other is not for the outside.
            *({"match": {"prefix": prefix}, "direct_response": {"status": 404}} for prefix in ("/quintet.", "/grpc.")),
            *(_files_route(method, path) for method, path in FILES_PATHS.items()),
            {
                "match": {"prefix": "/"},
                "route": {"cluster": ADAPTER, "timeout": f"{ADAPTER_TIMEOUT_S}s", "retry_policy": _retries()},
            },
        ],
    }
    if settings.cors_origins:
        host["typed_per_filter_config"] = {"envoy.filters.http.cors": filters.cors_policy(settings.cors_origins)}
    headers = {"x-content-type-options": "nosniff"}
    if settings.tls_cert is not None:
        headers["strict-transport-security"] = "max-age=31536000"
    return {
        "name": "edge",
        "validate_clusters": False,  # they come from a file of their own
        "virtual_hosts": [host],
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "ADD_IF_ABSENT"} for key, value in headers.items()
        ],
    }


def _grpc_route(part: str) -> Json:
    """gRPC, gRPC-Web and, after transcoding, REST calls of a part. Services impose the deadlines that clients omit."""
    return {
        "match": {"prefix": f"/quintet.{part}.v1."},
        "route": {
            "cluster": part,
            "timeout": "0s",
            "idle_timeout": f"{STREAM_S_MAX}s",
            "max_stream_duration": {
                "max_stream_duration": f"{STREAM_S_MAX}s",
                "grpc_timeout_header_max": f"{STREAM_S_MAX}s",
            },
            "retry_policy": _retries(),
        },
        # A stream must pass message by message; the services limit the size of each.
        "typed_per_filter_config": {"envoy.filters.http.buffer": filters.no_body_limit()},
    }


def _files_route(method: str, path: str) -> Json:
    """A file passes as it comes, neither gathered nor sent again: its sender knows what to do when it breaks off."""
    return {
        "match": {
            "safe_regex": {"regex": path},
            "headers": [{"name": ":method", "string_match": {"exact": method}}],
        },
        "route": {"cluster": ADAPTER, "timeout": f"{FILES_TIMEOUT_S}s"},
        "typed_per_filter_config": {"envoy.filters.http.buffer": filters.no_body_limit()},
    }


def _retries() -> Json:
    """Only what the service has certainly not begun: anything else is the client's to repeat, with its request id."""
    return {
        "retry_on": "connect-failure,refused-stream",
        "num_retries": CONNECT_RETRIES_MAX,
        "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"},
    }


def _cluster(name: str, address: str, protocol: Json) -> Json:
    host, _, port = address.rpartition(":")
    endpoints = [{"endpoint": {"address": _socket_address(host, int(port))}}] if address else []
    return {
        "name": name,
        "type": "STRICT_DNS" if host and not _is_ip(host) else "STATIC",
        "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
        "per_connection_buffer_limit_bytes": BUFFER_BYTES_MAX,
        "typed_extension_protocol_options": {
            HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{HTTP_OPTIONS}",
                **protocol,
                "common_http_protocol_options": {"idle_timeout": f"{IDLE_TIMEOUT_S}s"},
            }
        },
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": CLUSTER_REQUESTS_MAX,
                    "max_pending_requests": CLUSTER_REQUESTS_MAX,
                    "max_requests": CLUSTER_REQUESTS_MAX,
                    "max_retries": CLUSTER_RETRIES_MAX,
                }
            ]
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _socket_address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _http2() -> Json:
    return {
        "max_concurrent_streams": STREAMS_PER_CONNECTION_MAX,
        "initial_stream_window_size": WINDOW_BYTES,
        "initial_connection_window_size": BUFFER_BYTES_MAX,
    }


def _tls(files: EdgeFiles) -> Json:
    return {
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "cipher_suites": list(TLS_CIPHERS)},
            "tls_certificate_sds_secret_configs": [
                {"name": "edge", "sds_config": {"path_config_source": {"path": str(files.tls)}}}
            ],
        }
    }


def _overload(settings: GatewaySection) -> Json:
    """Refuses connections past the limit, and requests before the edge runs out of memory."""
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    heap = "envoy.resource_monitors.fixed_heap"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            filters.typed(
                connections,
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                {"max_active_downstream_connections": settings.max_connections},
            ),
            filters.typed(
                heap,
                "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                {"max_heap_size_bytes": HEAP_BYTES_MAX},
            ),
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{"name": heap, "threshold": {"value": 0.95}}],
            }
        ],
    }
