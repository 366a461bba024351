#!/usr/bin/env python3
"""The stock client of scripts/chaos: submits tasks of all kinds and writes down what becomes of each.

    chaos_client.py --name c0 --folder FOLDER --profile-dir DIR --seed N

Appends a line of JSON to FOLDER/journals/NAME before each submission, after each, and for each outcome. A client that is started
again reads what the one before wrote, and asks the hub for the tasks that had no outcome, by their ids or, where the client before
was killed too soon to write the ids down, by their labels. Submits until FOLDER/finish exists, then waits for what is missing, for a
limited time.
"""

import argparse
import json
import os
import pathlib
import random
import sys
import threading
import time

import ipyparallel as ipp

# Tasks that one client has under way, and seconds after which one no longer counts among them.
WINDOW, PATIENCE = 12, 15


def task(folder, name, seconds, failures):
    """Runs on an engine. Writes down that it began and ended; its first runs fail, as many as told."""
    import os
    import time

    def note(word):
        # One write to a file opened for appending, so that lines of several processes do not mix.
        file = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, f"{word} {os.getpid()} {time.time():.3f}\n".encode())
        finally:
            os.close(file)

    note("began")
    with open(f"{folder}/{name}") as file:
        runs = sum(line.startswith("began") for line in file)
    time.sleep(seconds)
    if runs <= failures:
        note("failed")
        raise ValueError(f"{name} fails")
    note("ended")
    return ["value of", name]


class Journal:
    """What this client has done, a line for each thing, for the verdict and for the client that takes its place."""

    def __init__(self, path):
        self.earlier = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    self.earlier.append(json.loads(line))
                except ValueError:
                    pass  # The client was killed while it wrote the line.
        self.lock = threading.Lock()
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        # Ends a line that was cut off.
        os.write(self.file, b"\n")

    def note(self, do, name, **more):
        line = json.dumps({"at": round(time.time(), 3), "do": do, "task": name, **more}) + "\n"
        with self.lock:
            os.write(self.file, line.encode())


def outcome(get):
    """The value that `get` gives, or the error that it raises, as members of a journal line."""
    try:
        return {"value": get()}
    except Exception as error:
        return failure(error)


def failure(error):
    return {"error": getattr(error, "ename", type(error).__name__), "text": str(getattr(error, "evalue", error))[:500]}


def connect(profile, seconds):
    """A client of the cluster. The controller may be away, so this tries until the time is over."""
    end = time.monotonic() + seconds
    while True:
        try:
            return ipp.Client(profile_dir=profile, timeout=8)
        except Exception as error:
            if time.monotonic() > end:
                sys.exit(f"no connection within {seconds} s: {error!r}")
            time.sleep(0.3)


def within(seconds, question):
    """What the question to the hub gives, or None when no answer comes in time.

    A stock client waits for ever for an answer that was lost with a controller, so each question has its own thread.
    """
    answer = []
    thread = threading.Thread(target=lambda: answer.append(question()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else None


class Asker(threading.Thread):
    """Asks the hub for outcomes with `get_result`, by a connection of its own, until each is known."""

    def __init__(self, profile, folder, journal):
        super().__init__(daemon=True)
        self.profile, self.folder, self.journal = profile, folder, journal
        self.lock = threading.Lock()
        self.wanted = {}
        # Tasks of clients before this one whose ids are not known, by label, with their numbers of copies.
        self.unsent, self.is_searched = {}, False

    def want(self, name, message):
        with self.lock:
            self.wanted.setdefault(message, name)

    def drop(self, message):
        with self.lock:
            self.wanted.pop(message, None)

    @property
    def open(self):
        with self.lock:
            return len(self.wanted)

    def run(self):
        client, waits, search = None, {}, 0
        while True:
            if self.unsent and time.monotonic() > search:
                client = client or connect(self.profile, 120)
                is_last = (self.folder / "finish").exists()
                if self.find(client):
                    search = time.monotonic() + 2
                    self.is_searched = is_last
                else:
                    client = None
            with self.lock:
                wanted = list(self.wanted.items())
            for message, name in wanted:
                if waits.get(message, 0) > time.monotonic():
                    continue
                client = client or connect(self.profile, 120)
                told = within(10, lambda: self.ask(client, message))
                if told is None:
                    client = None
                    continue
                if told == "pending":
                    waits[message] = time.monotonic() + 1
                    continue
                self.journal.note("outcome", name, id=message, by="hub", **told)
                self.drop(message)
            time.sleep(0.2)

    def find(self, client):
        """Looks for tasks of clients before this one by their labels. Requests may still be on their way. Says whether the hub answered."""
        def question():
            try:
                return client.db_query({"label": {"$in": list(self.unsent)}}, keys=["label", "metadata"])
            except Exception:
                return None  # The hub cannot read its records: the disk is full.

        records = within(10, question)
        found = {}
        for record in records or []:
            found.setdefault(record.get("label") or record["metadata"]["label"], []).append(record["msg_id"])
        for name, ids in found.items():
            # A broadcast has a record for each copy.
            if len(ids) == self.unsent[name]:
                self.journal.note("sent", name, ids=ids, by="label")
                for message in ids:
                    self.want(name, message)
                del self.unsent[name]
        return records is not None

    @staticmethod
    def ask(client, message):
        """The outcome; "pending" also when the hub cannot tell."""
        try:
            result = client.get_result(message)
            ready = result.wait(0)
        except Exception:
            # The hub does not know the task, yet, or cannot read its records: the disk is full. No outcome of the task.
            return "pending"
        return outcome(lambda: result.get(1)) if ready else "pending"


class Submitter:
    def __init__(self, ask):
        self.name, self.folder, self.profile = ask.name, pathlib.Path(ask.folder), ask.profile_dir
        self.journal = Journal(self.folder / "journals" / ask.name)
        self.generation = sum(line["do"] == "start" for line in self.journal.earlier)
        self.random = random.Random(f"{ask.seed} {ask.name} {self.generation}")
        self.asker = Asker(self.profile, self.folder, self.journal)
        # Tasks without an answer: name, message ids, result, when submitted.
        self.waiting = []
        # Balanced tasks that later ones can depend on: name and message id.
        self.recent = []
        self.count = 0

    def take_up_earlier(self):
        """The tasks of the client before this one that have no outcome are asked for at the hub."""
        known = {line["id"] for line in self.journal.earlier if line["do"] == "outcome"}
        for line in self.journal.earlier:
            if line["do"] == "begin":
                self.asker.unsent[line["task"]] = line["copies"]
            elif line["do"] == "refused":
                self.asker.unsent.pop(line["task"], None)
            elif line["do"] == "sent":
                self.asker.unsent.pop(line["task"], None)
                for message in line["ids"]:
                    if message not in known:
                        self.asker.want(line["task"], message)

    def run(self):
        self.journal.note("start", "")
        self.client = connect(self.profile, 120)
        self.take_up_earlier()
        self.asker.start()
        while not (self.folder / "finish").exists():
            self.collect()
            young = sum(time.monotonic() - begun < PATIENCE for *_, begun in self.waiting)
            if young < WINDOW and len(self.client.ids) > 0:
                self.submit()
                time.sleep(self.random.uniform(0.02, 0.25))
            else:
                time.sleep(0.05)
        # A minute without an outcome ends the wait: a queue may take longer than that to drain.
        end = time.monotonic() + 60
        last = time.monotonic() + 180
        left = self.missing()
        while time.monotonic() < min(end, last) and (left or self.asker.unsent and not self.asker.is_searched):
            self.collect()
            if left != (left := self.missing()):
                end = time.monotonic() + 60
            time.sleep(0.1)
        if self.waiting or self.asker.open:
            self.journal.note("waiting", "", why=self.reasons())
        self.journal.note("finish", "")

    def missing(self):
        """How many outcomes there have yet to be."""
        return len(self.waiting) + self.asker.open

    def reasons(self):
        """Why tasks wait, in the controller's words."""
        def question():
            client = ipp.Client(profile_dir=self.profile, timeout=8)
            content = client._send_recv(client._query_stream, "queue_request", content={"verbose": True, "targets": client.ids})["content"]
            return {key: value for key, value in content.items() if key != "status"}

        return within(15, question)

    def collect(self):
        """Writes down the answers that have come. The hub is asked for those that are late."""
        still = []
        for name, ids, result, begun in self.waiting:
            if result.ready():
                values = result.get(1, return_exceptions=True)
                for message, value in zip(ids, [values] if result._single_result else values):
                    told = failure(value) if isinstance(value, Exception) else {"value": value}
                    self.journal.note("outcome", name, id=message, by="reply", **told)
                    self.asker.drop(message)
            elif time.monotonic() - begun > 4 * PATIENCE:
                continue  # The hub is being asked.
            else:
                if time.monotonic() - begun > PATIENCE or (self.folder / "finish").exists():
                    for message in ids:
                        self.asker.want(name, message)
                still.append((name, ids, result, begun))
        self.waiting = still

    def submit(self):
        self.count += 1
        name = f"{self.name}.{self.generation}.{self.count}"
        kind = self.random.choices(
            ["balanced", "retried", "flaky", "failing", "after", "follow", "direct", "broadcast"], [22, 20, 6, 3, 12, 7, 20, 10])[0]
        seconds = self.random.uniform(1, 4) if self.random.random() < 0.06 else self.random.uniform(0, 0.4)
        retries, failures, needs = 0, 0, []
        if kind == "retried":
            retries = self.random.choice([1, 3, 5])
        elif kind == "flaky":
            retries, failures = 4, self.random.choice([1, 2])
        elif kind == "failing":
            retries, failures = 2, 1000
        elif kind in ("after", "follow"):
            retries = self.random.choice([0, 3])
            needs = self.random.sample(self.recent, min(len(self.recent), self.random.choice([1, 1, 2])))
            # Tasks that ran on different engines cannot both be followed.
            needs = needs[:1] if kind == "follow" else needs
        targets = self.client.ids
        if kind == "direct":
            targets = [self.random.choice(targets)]
        self.journal.note(
            "begin", name, kind=kind, retries=retries, failures=failures, needs=[need for need, _ in needs], seconds=round(seconds, 2),
            copies=len(targets) if kind == "broadcast" else 1, targets=targets if kind in ("direct", "broadcast") else [])
        arguments = (task, str(self.folder / "runs"), name, seconds, failures)
        try:
            if kind in ("direct", "broadcast"):
                view = self.client[targets[0]] if kind == "direct" else self.client.broadcast_view(targets)
                with view.temp_flags(label=name):
                    result = view.apply_async(*arguments)
            else:
                view = self.client.load_balanced_view()
                needed = {kind: [message for _, message in needs]} if needs else {}
                with view.temp_flags(label=name, retries=retries, **needed):
                    result = view.apply_async(*arguments)
        except Exception as error:
            return self.journal.note("refused", name, **failure(error))
        ids = list(result.msg_ids)
        self.journal.note("sent", name, ids=ids)
        self.waiting.append((name, ids, result, time.monotonic()))
        if kind not in ("direct", "broadcast"):
            self.recent = [*self.recent[-9:], (name, ids[0])]


if __name__ == "__main__":
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("--name", required=True)
    ask.add_argument("--folder", required=True)
    ask.add_argument("--profile-dir", required=True)
    ask.add_argument("--seed", type=int, default=0)
    Submitter(ask.parse_args()).run()
    # Threads of a client whose controller was killed may wait for ever.
    sys.stdout.flush()
    os._exit(0)
