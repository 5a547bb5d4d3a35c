"""What the server counts: Prometheus metrics. Their names are part of what users build on."""

from __future__ import annotations


class Metrics:
    """The counters of one server, in a registry of their own (so that tests may have several)."""

    def __init__(self) -> None:
        """Make every counter at zero; needs prometheus-client."""
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = r = CollectorRegistry()

        def unknown(name: str, says: str) -> Gauge:
            """One that is not a number until somebody knows."""
            gauge = Gauge(name, says, registry=r)
            gauge.set(float("nan"))
            return gauge

        self.stored = Counter(
            "skyreid_sightings_stored_total", "Sightings that were new", ["lane"], registry=r
        )
        self.duplicates = Counter(
            "skyreid_sightings_duplicate_total", "Sightings that were stored already", registry=r
        )
        self.late = Counter(
            "skyreid_sightings_late_total",
            "Sightings that came after their moment of capture was decided",
            registry=r,
        )
        self.rejected = Counter(
            "skyreid_rejected_total", "Messages set aside", ["reason"], registry=r
        )
        self.queue = Gauge("skyreid_ingest_queue", "Messages read and not stored yet", registry=r)
        self.commit_seconds = Histogram(
            "skyreid_commit_seconds",
            "Time to store one batch durably",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=r,
        )
        self.match_seconds = Histogram(
            "skyreid_match_seconds",
            "Time of one round of matching",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=r,
        )
        self.commit_failures = Counter(
            "skyreid_commit_failures_total",
            "Transactions that failed, by fault: full, locked, damaged, disk",
            ["fault"],
            registry=r,
        )
        self.decisions = Counter(
            "skyreid_decisions_total", "Decisions written to the log", ["kind"], registry=r
        )
        self.undecided = Gauge(
            "skyreid_undecided_sightings",
            "Stored sightings that wait for other cameras",
            registry=r,
        )
        self.quarantined = Gauge(
            "skyreid_quarantined_sightings",
            "Stored sightings on which matching failed, and which it is not shown",
            registry=r,
        )
        self.waiting = Gauge(
            "skyreid_oldest_undecided_seconds",
            "How long the oldest undecided sighting has been stored",
            registry=r,
        )
        self.match_lag = Gauge(
            "skyreid_match_lag_seconds",
            "Capture time by which decisions trailed what all devices have spoken for",
            registry=r,
        )
        self.unsettled = Gauge(
            "skyreid_match_unsettled_blocks",
            "Minutes of capture time that are over and not yet decided for good",
            registry=r,
        )
        self.uninformative = Gauge(
            "skyreid_appearance_uninformative",
            "Pairs of views in which looks tell nobody apart, and count nothing",
            registry=r,
        )
        self.journal_lost = Gauge(
            "skyreid_journal_lost",
            "1 where this server's start found rows of its journal lost",
            registry=r,
        )
        self.returns = Counter(
            "skyreid_returns_total",
            "Returns told, by state: accepted, tentative, undone",
            ["state"],
            registry=r,
        )
        self.returns_rate = Gauge(
            "skyreid_returns_false_positive_rate",
            "Strangers taken for somebody who had left: configured, and as measured on people whom "
            "one camera saw beside each other (NaN before there were any)",
            ["kind"],
            registry=r,
        )
        self.returns_waiting = Gauge(
            "skyreid_returns_waiting", "Identities that are due to be asked for", registry=r
        )
        self.returns_measured = Gauge(
            "skyreid_returns_measured", "Identities that the rate was measured on", registry=r
        )
        self.identities = Gauge("skyreid_identities", "Identities known", registry=r)
        self.model_keys = Gauge(
            "skyreid_model_keys",
            "Models in use at once; two meet by place and time only",
            registry=r,
        )
        self.broker_connected = Gauge("skyreid_broker_connected", "1 while connected", registry=r)
        self.broker_dropped = Gauge(
            "skyreid_broker_dropped_messages",
            "Messages that the broker says it dropped since it started; must stay 0",
            registry=r,
        )
        self.broker_dropped.set(float("nan"))  # until the broker has said
        self.broker_trouble = Counter(
            "skyreid_broker_trouble_total",
            "What went wrong with the broker and was lived with",
            ["kind"],
            registry=r,
        )
        self.outbox = Gauge("skyreid_outbox_events", "Events that wait for the broker", registry=r)
        self.pictures = Counter("skyreid_pictures_stored_total", "Pictures stored", registry=r)
        self.alarms = Counter(
            "skyreid_device_alarms_total",
            "What was noticed of devices and an operator has to look at",
            ["kind"],
            registry=r,
        )
        self.held_up = Gauge(
            "skyreid_held_up_seconds",
            "Capture time by which one device holds the site up; absent where none does",
            ["device"],
            registry=r,
        )
        self.devices_late = Gauge(
            "skyreid_devices_late", "Devices so far behind that nobody waits for them", registry=r
        )
        self.devices_online = Gauge("skyreid_devices_online", "Devices online", registry=r)
        self.http_connections = Gauge(
            "skyreid_http_connections", "Open connections of the HTTP server", registry=r
        )
        self.http_cut = Counter(
            "skyreid_http_connections_cut_total",
            "Connections cut: full (others needed the place), silent, unread",
            ["reason"],
            registry=r,
        )
        self.certificate_days = unknown(
            "skyreid_certificate_days_left",
            "Days until the server's certificate ends; NaN without one",
        )
        self.http_certificate_days = unknown(
            "skyreid_http_certificate_days_left",
            "Days until the certificate of the API ends; NaN without one",
        )
        self.revocation_in_force = unknown(
            "skyreid_revocation_in_force",
            "1 while the broker refuses who is on the newest revocation list; NaN: cannot tell",
        )
        self.revocation_age = unknown(
            "skyreid_revocation_list_age_ratio",
            "Age of the revocation list as a part of its life; NaN without one",
        )
        self.seal_keys = Gauge(
            "skyreid_seal_keys",
            "Private keys with which this server opened at its start what devices sealed",
            registry=r,
        )
        self.reloads = Counter(
            "skyreid_reloads_total",
            "SIGHUPs, by outcome: done, refused (the settings stayed as they were)",
            ["outcome"],
            registry=r,
        )
        for outcome in ("done", "refused"):  # a series that begins at 1 never rose
            self.reloads.labels(outcome)
        self.refused = Counter(
            "skyreid_http_refused_total",
            "Requests refused for who asked: 400 (no purpose), 401, 403, 421, 429",
            ["status"],
            registry=r,
        )
        self.audit_lines = Gauge("skyreid_audit_lines", "Number of the last audit line", registry=r)
        self.audit_head_at = Gauge(
            "skyreid_audit_head_timestamp_seconds",
            "When the head of the audit log last left this machine",
            registry=r,
        )
        self.audit_failures = Counter(
            "skyreid_audit_failures_total",
            "Times at which the audit log could not be written or its head not be sent",
            registry=r,
        )
        self.listeners = Gauge("skyreid_event_listeners", "Open /v1/events streams", registry=r)
        self.listeners_dropped = Counter(
            "skyreid_event_listeners_dropped_total",
            "Streams cut because they fell behind",
            registry=r,
        )

    def text(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST
