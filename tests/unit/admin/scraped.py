"""What is scraped, taken apart; and what dashboards go by, which stays."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


def samples(body: bytes) -> dict[str, float]:
    """Values, by `name{label=value,...}` with the labels in the order of the alphabet."""
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def told(body: bytes) -> set[str]:
    """Of each metric of ours that has samples: `type name{labels} help`, labels but for `le`."""

    def labels(sample: Sample) -> str:
        return ",".join(label for label in sample.labels if label != "le")

    return {
        f"{family.type} {sample.name}{{{labels(sample)}}} {family.documentation}"
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith("mailweir_")
    }


def known(name: str) -> set[str]:
    """Such lines, as a file beside this one has them: of metrics that somebody may go by."""
    return set((Path(__file__).parent / name).read_text().splitlines())
