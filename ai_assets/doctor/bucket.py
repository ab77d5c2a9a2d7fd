"""The bucket of `AI_ASSETS_DATA_URL`: rights, conditional writes, versions, and its clock."""

import time
from collections.abc import Iterator

from ai_assets.base.environment import CLUSTER
from ai_assets.base.home import DATA_URL_VARIABLE
from ai_assets.doctor.clock import skew
from ai_assets.doctor.cluster import LOST_WITH_PODS
from ai_assets.doctor.findings import Finding, fine, noted, warned
from ai_assets.doctor.installation import Installation
from ai_assets.storage.objects import DataBucket

PATIENCE_S = 4.0
DATE_S = 1.0
"""Its Date says whole seconds."""


def look(at: Installation) -> Iterator[Finding]:
    if at.home.data_url is None and at.environment == CLUSTER:
        yield warned(
            "bucket",
            found=f"`environment: cluster`, and {DATA_URL_VARIABLE} is not set here: {LOST_WITH_PODS}",
            fix="Set it where this runs, and for pods in the ConfigMap ai-assets-environment (docs/storage.md).",
        )
        return
    if at.home.data_url is None:
        yield fine("bucket", "the data lie in the home")
        return
    bucket = DataBucket(at.home.data_url, patience_s=PATIENCE_S)
    what = f"bucket {bucket.describe()}"
    bucket.prove()
    yield fine(what, "an object can be written, read, replaced and deleted, and both conditions are honoured")
    match bucket.keeps_versions():
        case True:
            yield fine(what, "it keeps versions")
        case False:
            yield warned(
                what,
                found="it keeps no versions, so what is deleted or replaced is gone",
                fix="Turn versioning on; it is the backup of what lies there (docs/storage.md).",
            )
        case None:
            yield noted(
                what,
                found="whether it keeps versions may not be asked here",
                fix="Allow s3:GetBucketVersioning to know.",
            )
    before_s = time.time()
    theirs_s = bucket.now_s()
    after_s = time.time()
    yield from skew("the bucket", theirs_s + DATE_S / 2 - (before_s + after_s) / 2, DATE_S + (after_s - before_s) / 2)
