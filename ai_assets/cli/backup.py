"""`ai-assets backup` and `ai-assets restore`: a home carried to another disk or machine, and back."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ai_assets.backup.errors import BackupDamaged, NothingToBackUp
from ai_assets.backup.making import BackupResult, make_backup
from ai_assets.backup.manifest import Backup
from ai_assets.backup.restoring import RestoredTenant, RestoreResult, at, restore_tenant
from ai_assets.backup.restoring import restore as restore_backup
from ai_assets.backup.vault import Vault
from ai_assets.base.plural import plural
from ai_assets.cli.output import AsJson, console, errors, home, led, money, print_json, stores_to_read, table
from ai_assets.storage.stores import is_there, nothing_yet

Folder = Annotated[
    str,
    typer.Argument(
        metavar="FOLDER", help="Where the backups are: a folder, best on another disk, or s3://bucket/prefix."
    ),
]
Which = Annotated[str | None, typer.Option("--which", help="Which backup (see --list); the newest by default.")]


def backup(
    folder: Folder,
    verify: Annotated[bool, typer.Option("--verify", help="Make none; hash again what is there.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Make none; list those that are there.")] = False,
    which: Which = None,
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Copy the private keys of the home, too.")] = False,
    keep: Annotated[int | None, typer.Option("--keep", min=1, help="Forget all but so many of the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the home while it is in use; only what is new is written. A killed backup leaves earlier ones whole."""
    if listing:
        _list(folder, as_json=as_json)
    elif verify:
        _verify(folder, which, as_json=as_json)
    else:
        if not is_there(home()):
            raise NothingToBackUp(nothing_yet(home()))
        made = make_backup(stores_to_read(), folder, with_keys=with_keys, keep=keep, say=errors.print)
        _show_made(made, folder, as_json=as_json)
        if made.backup.missing:
            raise typer.Exit(1)


def restore(
    folder: Folder,
    to: Annotated[Path | None, typer.Option("--to", help="The home to make; AI_ASSETS_HOME by default.")] = None,
    which: Which = None,
    replace: Annotated[bool, typer.Option("--replace", help="Set aside what is there, and take its place.")] = False,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Only the data of this tenant, into its empty bucket.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before something is replaced.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of a home that is empty, or that is set aside. All of it is checked before."""
    if tenant is not None:
        if replace or to is not None:
            raise typer.BadParameter("takes neither --replace nor --to: the home stays", param_hint="--tenant")
        backup, put = restore_tenant(folder, home(), tenant, which=which, say=errors.print)
        _show_tenant(backup, put, as_json=as_json)
        return
    target = at(home(), to)
    if replace and not yes:
        typer.confirm(f"Set aside what is at {target.root} and put the backup in its place?", abort=True, err=True)
    done = restore_backup(folder, target, which=which, replace_home=replace, say=errors.print)
    if as_json:
        print_json(_plain_restored(done))
    else:
        _show_restored(done)


def _list(folder: str, *, as_json: bool) -> None:
    with Vault.reading(folder) as vault:
        found = [vault.load(name) for name in vault.backups()]
    if as_json:
        print_json([_plain(item) for item in found])
        return
    rows = [
        (each.backup, each.made_at[:16], each.file_count, f"{each.size:,}", each.state.dialect, each.with_keys)
        for each in found
    ]
    columns = ("backup", "made (UTC)", "files", "bytes", "state store", "keys")
    table(f"Backups in {folder}", columns, rows, ("files", "bytes"))


def _verify(folder: str, which: str | None, *, as_json: bool) -> None:
    """All of them, unless one is named; every damaged one is reported, by its first difference."""
    damaged: dict[str, str] = {}
    with Vault.reading(folder) as vault:
        names = vault.backups() if which is None else [vault.load(which).backup]
        if not names:
            vault.load()
        for name in names:
            try:
                vault.verify(vault.load(name))
                errors.print(f"{name}: whole")
            except BackupDamaged as error:
                damaged[name] = str(error)
                errors.print(led("error:", "bold red", f" {error}"))
    if as_json:
        print_json({"verified": [name for name in names if name not in damaged], "damaged": damaged})
    elif not damaged:
        console.print(f"{len(names)} backup{'s verify' if len(names) > 1 else ' verifies'}: every file has its digest.")
    if damaged:
        raise typer.Exit(1)


def _plain(item: Backup) -> dict[str, Any]:
    """Without the list of files."""
    return {
        "backup": item.backup,
        "made_at": item.made_at,
        "home": item.home,
        "files": item.file_count,
        "bytes": item.size,
        "state_store": item.state.dialect,
        "with_keys": item.with_keys,
        "audit_records": item.state.audit_records,
        "audit_head": item.state.audit_head,
        "left_out": item.left_out,
        "missing": item.missing,
        "tenants": [
            {
                "tenant": each.tenant,
                "url": each.url,
                "collections": each.collections,
                "files": len(each.files),
                "size": each.size,
                "sha256": each.sha256,
            }
            for each in item.tenants
        ],
    }


def _show_made(made: BackupResult, folder: str, *, as_json: bool) -> None:
    if as_json:
        print_json({**_plain(made.backup), "new_bytes": made.new_bytes, "pruned": made.pruned, "notes": made.notes})
        return
    done = made.backup
    console.print(
        f"Backup {done.backup}: {plural(done.file_count, 'file')} and the state store, {plural(done.size, 'byte')}, "
        f"{made.new_bytes:,} of them new in {folder}."
    )
    for each in done.tenants:
        what = f"{plural(len(each.files), 'file')}, {plural(each.size, 'byte')}"
        console.print(f"Of them of tenant {each.tenant}: {what}, from {each.url}, digest {each.sha256[:12]}.")
    for name in made.pruned:
        console.print(f"Forgotten: {name}")
    console.print("Not in it, because they are made again: the cost warehouse, evaluation indexes, logs.")
    for note in made.notes:
        console.print(led("note:", "yellow", f" {note}"))


def _plain_restored(done: RestoreResult) -> dict[str, Any]:
    return {**asdict(done), "backup": _plain(done.backup), "home": str(done.home)}


def _show_tenant(backup: Backup, put: RestoredTenant, *, as_json: bool) -> None:
    if as_json:
        print_json({"backup": backup.backup, "made_at": backup.made_at, **asdict(put)})
        return
    _say_put(put)
    console.print(f"It is as it was at {backup.made_at} (UTC), from backup {backup.backup}; all else is as it is.")
    console.print(
        "What is newer than that is missing there: ai-assets verify names it, and a run makes datasets again."
    )


def _say_put(each: RestoredTenant) -> None:
    what = f"{plural(each.files, 'file')}, {plural(each.size, 'byte')}"
    console.print(f"Data of tenant {each.tenant} is in {each.url}: {what}, digest {each.sha256[:12]}.")


def _show_restored(done: RestoreResult) -> None:
    if done.data_url:
        console.print(f"Datasets and search indexes are in {done.data_url}.")
    for each in done.tenants:
        _say_put(each)
    console.print(f"{done.home} is as it was at {done.backup.made_at} (UTC), from backup {done.backup.backup}.")
    if done.set_aside:
        console.print(f"What was there before is at {done.set_aside}; remove it when all is well.")
    if done.ambiguous:
        what = plural(done.ambiguous, "attempt was", "attempts were")
        most = money(done.ambiguous_usd)
        console.print(f"{what} open and may have been billed, {most} at most: ai-assets ledger ambiguous")
    console.print(
        "Calls that were paid after that moment are not known to this store, and no figure of it counts them. The "
        "provider's own figures tell of them: ai-assets ledger reconcile"
    )
    if done.interrupted:
        console.print(f"{len(done.interrupted)} run(s) were under way and are reported failed.")
    for kind in done.keys_missing:
        console.print(
            led("needed:", "bold yellow", f" the {kind} key. Put {kind}.pem into {done.home / 'keys'} (mode 0600).")
        )
    console.print(
        "Say so in the audit chain, once the keys are there; publication asks for it where this home has newer "
        "checkpoints: ai-assets audit accept-restored --reason ..."
    )
    console.print("Everybody signs in again; roles and passwords are those of then. Next: ai-assets audit verify")
