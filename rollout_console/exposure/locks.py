from rollout_console.exposure.models import ExposureHead


def head() -> ExposureHead:
    """Return the one row that publishing holds until its transaction ends."""
    ExposureHead.objects.get_or_create(pk=1)
    return ExposureHead.objects.select_for_update(of=("self",)).get(pk=1)
