"""What this machine has of what the device needs, and what to do about the rest."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from skyreid.contract.broker import BrokerSection
from skyreid.contract.errors import InputError, PlatformError, SettingsError
from skyreid.edge import jetson
from skyreid.edge.video.platform import PACKAGES, explain_missing, probe

_OPTIONAL_ELEMENTS = (
    *("matroskademux", "uridecodebin3", "openh264dec", "rtpklvdepay", "udpsrc", "srtsrc"),
    *("tsdemux", "tsparse"),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    good: bool
    detail: str
    needed: bool = True
    """Without it nothing runs."""


@dataclass(frozen=True)
class Device:
    """Whom a broker is to let in."""

    site: str
    id: str
    mqtt: BrokerSection
    sealed_to: Path | None = None


def examine(device: Device | None = None, *, engines_needed: bool = False) -> list[Finding]:
    """Look at GStreamer, the libraries, the GPU and, where there is a device, its broker.

    Args:
        device: of the settings.
        engines_needed: whether TensorRT and a GPU are a must; else the CPU does.
    """
    findings = [*_gstreamer()]
    for module, package in (
        ("cv2", "opencv-python-headless"),
        ("onnxruntime", "onnxruntime"),
        ("paho.mqtt", "paho-mqtt"),
    ):
        findings.append(_library(module, package))
    for name, (good, detail), needed in (
        ("jetpack", jetson.jetpack(), False),
        ("tensorrt", jetson.tensorrt(), engines_needed),
        ("gpu", jetson.gpu(), engines_needed),
        ("memory", jetson.memory(), False),
        ("power mode", jetson.power_mode(), False),
    ):
        findings.append(Finding(name, good, detail, needed))
    if device is not None:
        findings.append(_broker(device))
        findings.append(_sealing(device))
        if device.mqtt.certificate is not None:
            findings.append(_certificate(device.mqtt.certificate))
    return findings


def _gstreamer() -> list[Finding]:
    try:
        platform = probe()
    except PlatformError as error:
        return [Finding("gstreamer", False, str(error))]
    words = ".".join(str(part) for part in platform.gst_version)
    if platform.l4t:
        words += f", Jetson Linux {platform.l4t}"
    findings = [Finding("gstreamer", platform.gst_version >= (1, 20, 0), words)]
    needed = [name for name in PACKAGES if name not in _OPTIONAL_ELEMENTS]
    if not platform.decoders:
        missing = platform.missing(needed)
    else:
        missing = [m for m in platform.missing(needed) if m != "avdec_h264"]
    findings.append(
        Finding(
            "elements",
            not missing,
            explain_missing(missing) if missing else f"all {len(needed)} that are needed",
        )
    )
    findings.append(
        Finding("decoders", bool(platform.decoders), ", ".join(platform.decoders) or "none")
    )
    return findings


def _library(module: str, package: str) -> Finding:
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        return Finding(package, False, f"{error}: pip install {package}")
    version = getattr(found, "__version__", None)
    if version is None:
        from importlib.metadata import version as installed

        version = installed(package)
    return Finding(package, True, str(version))


def _sealing(device: Device) -> Finding:
    from skyreid.contract.sealed import key_name, read_public_key

    if device.sealed_to is None:
        said = "not sealed: people lie on its disk in clear until the server has them"
        return Finding("sealing", False, f"{said} (spool.sealed_to)", needed=False)
    try:
        name = key_name(read_public_key(device.sealed_to))
    except InputError as error:
        return Finding("sealing", False, str(error))
    return Finding("sealing", True, f"sealed to key {name}")


def _certificate(path: Path) -> Finding:
    from skyreid.edge.delivery.renewal import days_left

    try:
        days = days_left(path)
    except InputError as error:
        return Finding("certificate", False, str(error))
    said = f"{days:.1f} days are left"
    return Finding("certificate", days > 0, said if days > 0 else f"over: {said}", needed=False)


def _broker(device: Device) -> Finding:
    """The whole way in, as the device goes it: name, TCP, TLS, login, subscription."""
    from skyreid.edge.delivery.publisher import ask_broker

    host, port, _ = device.mqtt.address
    try:
        good, said = ask_broker(
            (host, port),
            site=device.site,
            device=device.id,
            tls=device.mqtt.tls(),
            login=device.mqtt.login,
        )
    except (PlatformError, SettingsError) as error:  # whatever broker there is: no device starts
        return Finding("broker", False, str(error))
    spools = "" if good else "; the device would spool"
    return Finding("broker", good, f"{host}:{port} {said}{spools}", needed=False)
