"""PSNR and SSIM of a sweep, prompt by prompt: scripts/prompt_table.py FOLDER [-o FILE.md]

A FOLDER is what `praxino sweep -o FOLDER` left. For each setting a column: PSNR in dB and SSIM of every clip against the reference's, then
their median and their worst. `scripts/quality_page.py "TITLE=FILE.md"` puts the table into docs/QUALITY.md. Prompts that a setting has not
been run for (a sweep that goes on later) are left out of all columns, and counted.
"""
import argparse
import json
import pathlib
import statistics


def rows_of(folder):
    """{label: {(prompt, seed): (psnr, ssim)}}; the reference aside. Identical clips count as 60 dB."""
    by = {}
    for line in (folder / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["status"] != "ok" or row["label"] == "reference" or row["repeat"] or not row.get("quality"):
            continue
        q = row["quality"]
        by.setdefault(row["label"], {})[row["prompt"], row["seed"]] = (60.0 if q["identical"] else min(q["psnr"], 60.0), q["ssim"])
    return by


def cells(pairs):
    return " | ".join("%.1f | %.4f" % p for p in pairs)


def table(spec, by):
    clips = [(p, s) for p in spec["prompts"] for s in spec["seeds"]]
    whole = [c for c in clips if all(c in rows for rows in by.values())]
    out = ["| prompt | " + " | ".join("%s: PSNR dB | SSIM" % label for label in by) + " |", "|---|" + "---|" * (2 * len(by))]
    for prompt, seed in whole:
        name = prompt if len(spec["seeds"]) == 1 else "%s (seed %d)" % (prompt, seed)
        out.append("| %s | %s |" % (name, cells(rows[prompt, seed] for rows in by.values())))
    for name, of in (("**median**", statistics.median), ("**worst**", min)):
        out.append("| %s | %s |" % (name, cells(tuple(of(rows[c][i] for c in whole) for i in range(2)) for rows in by.values())))
    if len(whole) < len(clips):
        out += ["", "%d of %d clips: the sweep is not complete." % (len(whole), len(clips))]
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("-o", "--output", type=pathlib.Path)
    a = p.parse_args()
    spec, by = json.loads((a.folder / "sweep.json").read_text()), rows_of(a.folder)
    if not by:
        p.error(f"{a.folder}: no rows that were measured")
    base = ", ".join("%s %s" % i for i in spec["base"].items())
    head = "%s Base: %s; `praxino sweep configs/sweeps/%s.json -o %s`, then `scripts/prompt_table.py %s`." % (
        spec["description"], base, a.folder.name, a.folder.name, a.folder.name)
    text = "\n".join([head, "", *table(spec, dict(sorted(by.items())))]) + "\n"
    if a.output:
        a.output.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
