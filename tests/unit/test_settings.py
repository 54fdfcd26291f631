"""Settings: each one that is read is described, and a deployment without one does not start."""

import os
import re
import subprocess
import sys

from tests.servers import ROOT

READ = re.compile(r'env\.\w+\(\s*"([A-Z_]+)"')


def test_every_setting_is_described() -> None:
    read = {
        name
        for path in (ROOT / "rollout_console" / "settings").glob("*.py")
        for name in READ.findall(path.read_text())
    }
    described = set(re.findall(r"`([A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text()))
    assert len(read) > 10
    assert read - described == set()


def test_the_environment_is_read_by_settings_alone() -> None:
    elsewhere = [
        str(path.relative_to(ROOT))
        for package in ("rollout_console", "signals", "approvals")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"os\.environ\[|os\.environ\.get|getenv", path.read_text())
    ]
    assert elsewhere == []


def test_a_deployment_without_a_needed_value_does_not_start() -> None:
    env = {"PATH": os.defpath, "DJANGO_SETTINGS_MODULE": "rollout_console.settings.prod"}
    given = {
        "SECRET_KEY": "x" * 50,
        "ALLOWED_HOSTS": "console.example",
        "DATABASE_URL": "postgres://owner:secret@db.example/console",
        "REDIS_URL": "redis://cache.example/0",
        "CONSOLE_URL": "https://console.example",
    }
    script = "import django; django.setup(); from django.conf import settings as s; print(s.HTTPS)"
    for missing in [*given, None]:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**env, **{name: value for name, value in given.items() if name != missing}},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if missing is None:
            assert (done.returncode, done.stdout) == (0, "True\n")
        else:
            assert done.returncode != 0
            assert f"Set the {missing} environment variable" in done.stderr


def test_credentials_that_do_not_fit_are_named_without_their_secret() -> None:
    script = "from django.conf import settings as s; print(sorted(s.PULL_CREDENTIALS))"
    for told in ('{"main": {"bearer": "s3cret"}}', '{"main": "s3cret"}', '["s3cret"', '"s3cret"'):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={
                "PATH": os.defpath,
                "DJANGO_SETTINGS_MODULE": "rollout_console.settings.test",
                "PULL_CREDENTIALS": told,
            },
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0
        assert "PULL_CREDENTIALS is JSON, such as" in done.stderr
        assert "s3cret" not in done.stderr
