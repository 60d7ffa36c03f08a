"""The process's answers as aligned plain text. Called by the command line; stdlib only. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

# Denied prefixes that `status` shows: there may be thousands.
_MOST_DENIES = 20


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns, numbers to the right, no ruling."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *cells]) for i in range(len(head))]
    right = [bool(rows) and all(isinstance(row[i], int) for row in rows) for i in range(len(head))]
    lines = []
    for row in [list(head), *cells]:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip() + "\n")
    return "".join(lines)


def _kernel_path(path: Mapping[str, Any] | None) -> list[str]:
    if path is None or path["why_not"]:
        return []
    relayed = ", ".join(f"{count} {why}" for why, count in path["refusals"].items())
    lines = [
        f"kernel path: {path['flows']} flows, {path['places_taken']} of {path['max_flows']} places"
        f" taken ({path['tables_bytes'] >> 20} MiB), {path['handed_over']} handed over,"
        f" {path['adopted']} adopted; relayed instead: {relayed or 'none'}"
    ]
    if path["earlier"]:
        lines.append(f"{path['earlier']} flows of another version go on by themselves")
    return lines


def kernel_path_lacks(path: Mapping[str, Any] | None) -> list[str]:
    """What is wanted of the kernel path, by the configuration that runs, and isn't there now."""
    if path is None:
        return []
    if path["why_not"]:
        return [f"no kernel path, sessions take the relay: {path['why_not']}"]
    lines = [
        f"the kernel path isn't at {name}: {why}" for name, why in sorted(path["not_at"].items())
    ]
    if path["max_flows"] < path["wanted_flows"]:
        lines.append(
            f"the kernel path has places for {path['max_flows']} flows, not for max_flows"
            f" {path['wanted_flows']}: flows of an earlier process go on in its tables; restart"
            " mailweir once they have ended"
        )
    if path["ends_with_process"]:
        lines.append(f"sessions in the kernel end with the process: {path['ends_with_process']}")
    return lines


def refused_load(load: Mapping[str, Any]) -> list[str]:
    """That the file isn't what runs, since the last load was refused."""
    return [] if load["ok"] else [f"last load: REFUSED: {load['message']}"]


def _operator(words: Sequence[Mapping[str, Any]]) -> list[str]:
    denies = [word for word in words if word["what"].startswith("deny ")]
    others = [word for word in words if not word["what"].startswith("deny ")]
    shown = others + denies[:_MOST_DENIES]
    lines = [f"operator: {word['what']} {word['told']}" for word in shown]
    if len(denies) > _MOST_DENIES:
        lines.append(f"operator: deny {len(denies) - _MOST_DENIES} others, which --json shows")
    return lines


def _at_the_door(listener: Mapping[str, Any]) -> list[str]:
    """Whom a listener refused, and what it remembers of whom."""
    begin, sources = f"listener {listener['name']}", listener["sources"]
    lines = [f"{begin} refused {_sessions(n)}: {why}" for why, n in listener["refused"].items()]
    lines += [
        f"{begin} would have refused {_sessions(n)}, were it not for dry_run: {limit}"
        for limit, n in listener["would_refuse"].items()
    ]
    if sources:
        line = f"{begin} remembers {sources['entries']} sources, {sources['places']} at most"
        if sources["evicted"] or sources["untracked"]:
            line += (
                f"; for want of places {sources['evicted']} were forgotten early and"
                f" {sources['untracked']} sessions not counted"
            )
        lines.append(line)
    return lines


def _sessions(number: int) -> str:
    return "1 session" if number == 1 else f"{number} sessions"


def _sticky(pool: Mapping[str, Any]) -> str:
    sticky = pool["sticky"]
    return (
        f"pool {pool['name']} remembers the servers of {sticky['entries']} sources:"
        f" {sticky['found']} sessions went where they had been, {sticky['broken']} couldn't"
    )


def status(answer: Mapping[str, Any]) -> str:
    """`mailweir status`."""
    load = answer["config"]["last_load"]
    ready = "ready" if answer["ready"] else "NOT READY: " + "; ".join(answer["reasons"])
    lines = [
        f"mailweir {answer['version']}, pid {answer['pid']}, up {span(answer['uptime_seconds'])},"
        f" {answer['workers']} workers",
        ready,
        *answer["panics"],
        *answer["failing"],
        *_before(answer["before"]),
        f"{answer['sessions']} sessions, {answer['max_sessions']} at most",
        *_room(answer["room"]),
        f"configuration {answer['config']['file']}, generation {answer['generation']}; "
        + "".join(refused_load(load) or [f"last load: {load['message']}"]),
    ]
    if answer["ha"]:
        lines.append(role(answer["ha"]))
    lines += _kernel_path(answer["kernel_path"])
    lines += kernel_path_lacks(answer["kernel_path"])
    lines += _operator(answer["operator"]["words"])
    if answer["operator"]["not_kept"]:
        lines.append(f"NOT KEPT FOR A RESTART: {answer['operator']['not_kept']}")
    lines += _troubles(answer)
    if answer["stuck_workers"]:
        lines.append(f"STUCK WORKERS: {' '.join(map(str, answer['stuck_workers']))}")
    if answer["log"]["dropped"]:
        reason = answer["log"]["last_error"] or "it can't keep up"
        lines.append(f"SESSION LOG: {answer['log']['dropped']} sessions are missing: {reason}")
    for li in answer["listeners"]:
        lines += _at_the_door(li)
    lines += [_sticky(pool) for pool in answer["pools"] if pool["sticky"]]
    lines += [overflow(pool) for pool in answer["pools"] if pool["overflow"]]
    return "\n".join([*lines, "", _listeners(answer["listeners"]), _pools(answer["pools"])])


def _before(before: Mapping[str, Any] | None) -> list[str]:
    """What the process before this one has still."""
    if before is None:
        return []
    sessions = _sessions(before["sessions"])
    return [f"the process before this one, pid {before['pid']}, has {sessions} still"]


def upgrade(answer: Mapping[str, Any]) -> str:
    """`mailweir upgrade`."""
    return f"upgraded: {answer['message']}, mailweir {answer['version']}"


def _troubles(answer: Mapping[str, Any]) -> list[str]:
    """What is wrong with the process itself."""
    lines = []
    if answer["admin"]["problem"]:
        lines.append(f"ADMIN SOCKET: {answer['admin']['problem']}")
    if answer["stderr"]["dropped"]:
        lines.append(f"STANDARD ERROR: nobody read {answer['stderr']['dropped']} lines of the log")
    lines += [
        f"INTERNAL ERROR ({fault['part']}, {fault['times']} times): {fault['last']}"
        for fault in answer["faults"]
    ]
    return lines


def _room(room: Mapping[str, Any]) -> list[str]:
    """What descriptors and memory are enough for, and what is used of it beside sessions."""
    held, by = f"{room['held']} sessions outside the kernel", room["by"]
    lines = [f"{held}, room for {room['sessions']} ({by})"]
    if room["lingering"] or room["overdue"] or room["hurried"]:
        lines.append(
            f"spare connections: {room['lingering']} linger, {room['overdue']} to servers that are"
            f" late, {room['spare']} at most of each; {room['hurried']} ended at once"
        )
    return lines


def overflows(pool: Mapping[str, Any]) -> bool:
    """Whether its sessions go to other pools, or not all of them have come back."""
    return bool(pool["overflow"]) and pool["overflow"]["course"] != "home"


def overflow(pool: Mapping[str, Any]) -> str:
    """What becomes of the sessions of a pool that may go to others."""
    found = pool["overflow"]
    match found["course"]:
        case "home":
            said = "has its sessions itself"
        case "elsewhere":
            said = "overflows: its sessions go to other pools"
        case _:
            said = f"has {int(found['share'] * 100)}% of its sessions again, others the rest"
    taken = ", ".join(f"{number} to {to}" for to, number in found["sessions"].items())
    return f"pool {pool['name']} {said}; overflowed so far: {taken or 'none'}"


def role(ha: Mapping[str, Any]) -> str:
    """What this node is in a pair."""
    said = f"high availability: {ha['role']} since {span(ha['age_seconds'])} ({ha['by']})"
    if ha["slower_checks"] > 1:
        said += f", checks come {ha['slower_checks']} times as seldom"
    alarms = f"{ha['alarms']} alarm{'s' if ha['alarms'] > 1 else ''}"
    return f"{said}, {alarms}: see `mailweir ha status`" if ha["alarms"] else said


def _listeners(listeners: Sequence[Mapping[str, Any]]) -> str:
    return table(
        ("LISTENER", "PROTOCOL", "POOL", "SESSIONS", "ACCEPTED", "ADDRESSES"),
        [
            (
                f"{li['name']} (paused)" if li["paused"] else li["name"],
                li["protocol"] or "-",
                li["pool"] or "-",
                li["active"],
                li["accepted"],
                " ".join(li["addresses"]),
            )
            for li in listeners
        ],
    )


def _pools(pools: Sequence[Mapping[str, Any]]) -> str:
    head = ["POOL", "BALANCE", "UP", "SERVERS", "SESSIONS"]
    rows = [
        [pool["name"], pool["balance"] or "-", pool["up"], pool["servers"], pool["active"]]
        for pool in pools
    ]
    waiting = [pool["waiting"] for pool in pools]
    if any(waiting):
        head.append("WAITING")
        rows = [[*row, number] for row, number in zip(rows, waiting, strict=True)]
    return table(head, rows)


def healthcheck(answer: Mapping[str, Any]) -> str:
    """`mailweir healthcheck`: ready, or a reason a line."""
    return "ready" if answer["ready"] else "\n".join(answer["reasons"])


def servers(answer: Mapping[str, Any]) -> str:
    """`mailweir servers`. FAILED sent sessions to another server: connects and greetings."""
    head = ["SERVER", "ADDRESS", "STATE", "WEIGHT", "ACTIVE", "SESSIONS", "FAILED", "LAST CHECK"]
    rows = [
        [
            f"{server['pool']}/{server['name']}",
            server["address"],
            state(server),
            server["weight"],
            server["active"],
            server["sessions"],
            server["connect_failures"] + server["greeting_failures"],
            check_told(server["check"]),
        ]
        for server in answer["servers"]
    ]
    alarms = ["; ".join(server["alarms"]) for server in answer["servers"]]
    if any(alarms):
        head.append("ALARMS")
        rows = [[*row, alarm or "-"] for row, alarm in zip(rows, alarms, strict=True)]
    words = [server["operator"] for server in answer["servers"]]
    if any(words):
        head.append("OPERATOR")
        rows = [[*row, word or "-"] for row, word in zip(rows, words, strict=True)]
    return table(head, rows)


def state(server: Mapping[str, Any]) -> str:
    """A server's state, with what is unusual about it."""
    more = []
    if server["state"] == "up" and server["ramp"] < 1:
        more.append(f"slow start {int(server['ramp'] * 100)}%")
    if server["backup"]:
        more.append("backup")
    if ejected := server["ejected"]:
        more.append(_ejected(ejected))
    if server["by_checks"] and _is_news(server):
        more.append(server["by_checks"])
    return f"{server['state']} ({', '.join(more)})" if more else str(server["state"])


def _ejected(ejected: Mapping[str, Any]) -> str:
    left = span(ejected["left_seconds"])
    until = f"for another {left}" if ejected["left_seconds"] else "until it passes a check"
    often = f", the {ejected['times']}th time" if ejected["times"] > 3 else ""
    return f"{ejected['reason']}; {until}{often}"


def _is_news(server: Mapping[str, Any]) -> bool:
    """Whether the last check, which stands beside it, doesn't say why it is so."""
    check = server["check"]
    return server["state"] != "down" or not check or check["ok"]


def server(answer: Mapping[str, Any]) -> str:
    """`mailweir servers POOL/SERVER`."""
    caps = answer["max_sessions"]
    lines = [
        f"{answer['pool']}/{answer['name']} at {answer['address']}: {state(answer)}",
        f"weight {answer['weight']}, {answer['active']} sessions now"
        f"{f' of {caps}' if caps else ''}, {answer['sessions']} in all",
    ]
    if answer["operator"]:
        lines.append(f"operator: {answer['operator']}")
    for check in answer["checks"]:
        lines += ["", *_check_in_full(check, answer["address"])]
    return "\n".join([*lines, ""])


def _check_in_full(check: Mapping[str, Any], server: str) -> list[str]:
    at = "" if check["address"] == server else f" at {check['address']}"
    decides = "" if check["decides"] == "state" else f", decides {check['decides']}"
    lines = [f"check {check['name']} ({check['kind']}{at}{decides}): {check['health']}"]
    if check["alarm"]:
        lines.append(f"ALARM: {check['alarm']}")
    if check["agent"]:
        lines.append(f"agent says: {check['agent']}")
    rows = [
        (
            f"{span(one['age_seconds'])} ago",
            one["verdict"] if one["step"] != "local" else "-",
            f"{one['seconds'] * 1000:.0f} ms",
            f"{one['step']}: {one['detail']}" if one["step"] else "ok",
        )
        for one in check["results"]
    ]
    if not rows:
        return [*lines, "not made yet"]
    return [*lines, table(("WHEN", "VERDICT", "TOOK", "RESULT"), rows).rstrip("\n")]


def sessions(answer: Mapping[str, Any]) -> str:
    """`mailweir sessions`. SILENT is since either side spoke, LAST who that was."""
    return table(
        ("SESSION", "CLIENT", "LISTENER", "SERVER", "AGE", "SILENT", "LAST", "IN", "OUT", "PATH"),
        [
            (
                one["id"],
                one["client"],
                one["listener"],
                f"{one['pool']}/{one['server']}" if one["server"] else "-",
                span(one["age_seconds"]),
                span(one["silent_seconds"]),
                one["spoke_last"],
                one["received_bytes"],
                one["sent_bytes"],
                f"{one['path']}, TLS" if one["tls"] else one["path"],
            )
            for one in answer["sessions"]
        ],
    )


def refused(answer: Mapping[str, Any]) -> str:
    """`mailweir refused`."""
    if not answer["sources"]:
        return "nobody was refused in the last 24 hours"
    return table(
        ("SOURCE", "LISTENER", "REFUSED", "LAST", "WHY"),
        [
            (
                one["source"],
                one["listener"],
                one["sessions"],
                f"{span(one['age_seconds'])} ago",
                ", ".join(f"{count} {why}" for why, count in one["reasons"].items()),
            )
            for one in answer["sources"]
        ],
    )


def explanation(answer: Mapping[str, Any]) -> str:
    """`mailweir explain`."""
    parts = [_at_listener(answer["client"], one) for one in answer["listeners"]]
    return "\n".join(parts) or f"no listener is at an address that {answer['client']} could reach\n"


def _at_listener(client: str, at: Mapping[str, Any]) -> str:
    most = f"of {at['max_sessions']}" if at["max_sessions"] else "without a cap of its own"
    fate = f"would be REFUSED: {at['refused']}" if at["refused"] else f"would {_fate(at)}"
    head = f"{client} at listener {at['name']} ({' '.join(at['addresses'])}) {fate}\n"
    rows = [
        (
            f"{one['pool']}/{one['name']}",
            "next" if one["next"] else "yes" if one["usable"] else "no",
            one["sessions"],
            one["weight"],
            one["why"],
        )
        for one in at["servers"]
    ]
    servers = table(("SERVER", "USABLE", "SESSIONS", "WEIGHT", "WHY"), rows)
    lines = f"sessions there: {at['sessions']}, {most}; {at['balance']}\n"
    if at["overflow"]:
        lines += f"overflow: {at['overflow']}\n"
    if at["queue"]:
        lines += f"waiting for a place: {_waiting(at['queue'])}\n"
    for said in (*filter(None, [at["access"]]), *at["limits"]):
        lines += f"of this client: {said}\n"
    return f"{head}{lines}{servers}"


def _fate(at: Mapping[str, Any]) -> str:
    if at["next"] is None:
        return f"wait for a place at a server of pool {at['pool']}"
    path = f"by the relay ({at['relayed']})" if at["relayed"] else "through the kernel if it can"
    return f"get {at['next_pool']}/{at['next']}, {path}"


def _waiting(queue: Mapping[str, Any]) -> str:
    return f"{queue['waiting']} of {queue['length']}, for {queue['wait']:g} s at most"


def filters(answer: Mapping[str, Any]) -> str:
    """`mailweir sessions --tcpdump`: what no socket shows any more."""
    found = (one for one in answer["sessions"] if one["tcpdump"])
    return "".join(f"{one['tcpdump']}\n" for one in found)


def event(answer: Mapping[str, Any]) -> str:
    """A line of `mailweir events`, without its end."""
    level = "" if answer["level"] == "info" else f"{str(answer['level']).upper()} "
    fields = {key: answer[key] for key in answer if key not in ("id", "ts", "level", "event")}
    said = "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
    return f"{answer['ts']} {level}{answer['event']}{said}"


def _quoted(value: object) -> str:
    """As logfmt has it: what a server says can't end a value and begin another."""
    text = str(value)
    if text and not any(one in text for one in ' "='):
        return text
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


def reload(answer: Mapping[str, Any]) -> str:
    """`mailweir reload` that went well."""
    return f"reloaded, generation {answer['generation']}: {answer['message']}\n"


def check_told(check: Mapping[str, Any] | None) -> str:
    """How the last check of a server went, and when."""
    if check is None:
        return "not yet"
    when = f"{span(check['age_seconds'])} ago"
    if check["ok"]:
        return f"{check['kind']} ok in {check['seconds'] * 1000:.0f} ms, {when}"
    return f"{check['kind']} failed, {when}: {check['step']}: {check['detail']}"


def span(seconds: float) -> str:
    """About how long, in the two largest units."""
    whole = int(seconds)
    days, hours = divmod(whole // 3600, 24)
    minutes = whole // 60 % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    if minutes:
        return f"{minutes}m {whole % 60}s"
    return f"{whole}s"
