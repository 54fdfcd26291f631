import sys
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from approvals.authority.principals import SYSTEM
from rollout_console.containment.lifecycle import plan_apply_and_publish
from rollout_console.core.errors import DomainError
from rollout_console.rollouts.plan_yaml import (
    PlanText,
    PlanUnreadable,
    plan_json_load,
    yaml_load,
)
from rollout_console.rollouts.selectors import plan_text
from rollout_console.rollouts.services import PlanResult

READ_MAX: Final = 2 * 1024 * 1024


class Command(BaseCommand):
    help = "Plans as YAML: export one, show what a file would change, apply a file."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        export = verbs.add_parser("export", help="write the plan in force to standard output")
        export.add_argument("workflow")
        diff = verbs.add_parser("diff", help="show what applying a file would change")
        diff.add_argument("file", help="a YAML or JSON file; - is standard input")
        apply = verbs.add_parser("apply", help="apply a file; creates what is new")
        apply.add_argument("file", help="a YAML or JSON file; - is standard input")
        apply.add_argument("--dry-run", action="store_true", help="check and show, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "export":
            text = plan_text(workflow=options["workflow"])
            if text is None:
                raise CommandError(f"There is no plan of “{options['workflow']}”.")
            self.stdout.write(text, ending="" if text.endswith("\n") else "\n")
            return
        dry_run = options["verb"] == "diff" or options["dry_run"]
        result = self._apply(options["file"], dry_run=dry_run)
        for line in result.diff:
            self.stdout.write(line)
        if options["verb"] == "diff":
            return
        if result.loosens:
            for sentence in result.loosens:
                self.stdout.write(f"loosens: {sentence}")
        if result.change is not None and not dry_run:
            self.stdout.write(
                f"{result.workflow}: waits as change {result.change} for an approver, until "
                f"{result.expires_at:%Y-%m-%d %H:%M} UTC"
            )
        elif result.change is not None:
            self.stdout.write(f"{result.workflow}: would wait for an approver")
        elif not result.created:
            self.stdout.write(f"{result.workflow}: plan {result.number} says the same already")
        elif dry_run:
            self.stdout.write(f"{result.workflow}: would become plan {result.number}")
        else:
            self.stdout.write(f"{result.workflow}: applied as plan {result.number}")

    def _apply(self, name: str, *, dry_run: bool) -> PlanResult:
        text, parsed = self._read(name)
        try:
            return plan_apply_and_publish(
                document=parsed.value,
                text=text if parsed.lines else "",
                principal=SYSTEM,
                now=timezone.now(),
                dry_run=dry_run,
            )
        except DomainError as refusal:
            errors = refusal.facts.get("errors") or []
            told = [
                f"{name}{':' + str(error['line']) if 'line' in error else ''}: "
                f"{error['pointer'] or '/'}: {error['detail']}"
                for error in errors
            ]
            raise CommandError("\n".join([refusal.detail, *told])) from refusal

    def _read(self, name: str) -> tuple[str, PlanText]:
        try:
            if name == "-":
                raw = sys.stdin.buffer.read(READ_MAX)
            else:
                with Path(name).open("rb") as file:
                    raw = file.read(READ_MAX)
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror or error}") from error
        try:
            # JSON is YAML too, but for its tabs; what begins like JSON is read as JSON.
            read = plan_json_load if raw.lstrip()[:1] == b"{" else yaml_load
            return raw.decode("utf-8-sig", "replace"), read(raw)
        except PlanUnreadable as error:
            line = f":{error.line}" if error.line else ""
            raise CommandError(f"{name}{line}: {error.detail}") from error
