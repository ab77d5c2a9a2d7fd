"""Errors about assets that are signed. They hang below `UserError`.

SignedAssetWrong  an asset that cannot be signed: its rows, its key, its rules
SignedAssetTaken  two assets, or an asset and a collection, under one name
"""

from ai_assets.base.errors import UserError


class SignedAssetWrong(UserError):
    def __init__(self, asset: str, found: str) -> None:
        super().__init__(f"The asset {asset} cannot be signed: {found}.")


class SignedAssetTaken(UserError):
    def __init__(self, name: str, asset: str, other: str) -> None:
        super().__init__(
            f"The asset {asset} cannot be signed under the name '{name}': that is {other} already. Give it another "
            "one: ai_assets.signed(asset, name=...)"
        )
