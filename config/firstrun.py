"""The page that a new installation begins with; it is gone as soon as there is somebody."""

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts import setup
from accounts.callers import address_of
from accounts.errors import Refusal
from accounts.forms import AccountForm, refuse
from accounts.models import LONGEST_EMAIL
from accounts.pages import let_in


class FirstRunForm(AccountForm):
    """The first administrator and the first team."""

    email = forms.EmailField(label=_("E-mail address"), max_length=LONGEST_EMAIL, widget=forms.EmailInput(attrs={"autocomplete": "email"}))
    team_name = forms.CharField(
        label=_("First team"), max_length=100, help_text=_("Jobs, datasets and money belong to a team. More teams can be made later.")
    )
    field_order = ["email", "username", "password1", "password2", "team_name"]

    def asked(self) -> dict[str, str]:
        """The arguments of `setup.found`."""
        given = self.cleaned_data
        return {
            "email": given["email"],
            "username": given["username"],
            "password": given["password1"],
            "team_name": given["team_name"],
        }


@login_not_required  # nobody can sign in yet
@require_http_methods(["GET", "POST"])
@never_cache
@sensitive_post_parameters("password1", "password2")
def page(request: HttpRequest) -> HttpResponse:
    """Make the first administrator and the first team, and let them in."""
    if not setup.is_needed():
        raise Http404("This installation has its first administrator already.")
    form = FirstRunForm(request.POST or None)
    if form.is_valid():
        try:
            founded = setup.found(**form.asked(), address=address_of(request))
        except setup.SetupDone:
            return redirect("account_login")
        except Refusal as refusal:
            refuse(form, refusal)
        else:
            return let_in(request, founded.administrator, to=founded.team.get_absolute_url())
    return render(request, "config/first_run.html", {"form": form})
