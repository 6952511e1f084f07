"""What the house says of its forms, as the parser wants it."""

from parsers.options import FormMap
from parsers.text import normalize
from workflow.settings.settings import Settings


def build_form_maps(settings: Settings) -> tuple[FormMap, ...]:
    """One for every form in the settings.

    Also those without a word about their fields are known.
    """
    return tuple(
        FormMap(
            form=number,
            fields=tuple(
                (normalize.fold_label(name), meaning.value) for name, meaning in form.fields.items()
            ),
            defaults=tuple((ours.value, value) for ours, value in form.defaults.items()),
        )
        for number, form in settings.form.items()
    )
