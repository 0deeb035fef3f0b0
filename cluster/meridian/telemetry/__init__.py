"""What the gateway tells about itself: trace context, spans, metrics, access log, the agent's log.

Workers import `context`, `spans`, `metrics`, `line_log`, `access_log` and `query_log` only: plain data and the standard
library (and msgspec).
`export`, `exposition` and `logs` are the agent's: OpenTelemetry, prometheus-client and structlog live there alone.
"""
