"""The one door of the storage endpoint. Who is asking decides how it is answered: S3 client, upload token, or member and API token."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from jobs.storage import access, api, body, s3, signatures

for_callers = api.ForCallers.as_view()
for_upload_tokens = api.ForUploadTokens.as_view()


@login_not_required  # the signature, the token or the API's own check is the lock
@csrf_exempt
def storage(request: HttpRequest, bucket: str = "", name: str = "") -> HttpResponseBase:
    """Answer, and let a client that was refused while sending come to the end of it."""
    if signatures.is_signed(request):
        response = s3.answer(request, bucket, name)
    elif access.has_token(request):
        response = for_upload_tokens(request, bucket=bucket, name=name)
    else:
        response = for_callers(request, bucket=bucket, name=name)
    if response.status_code >= 400 and request.method in {"PUT", "POST"}:
        body.drain(request)
    if body.must_close(request):
        response["Connection"] = "close"
    return response
