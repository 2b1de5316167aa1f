# Checks #include lines against includes.txt, from the root. Usage: awk -f includes.awk includes.txt FILES...

function dir_of(path,    p) { p = path; return sub(/\/[^\/]*$/, "", p) ? p : "" }

# "a/b/../c" -> "a/c"
function clean(path) {
    while (sub(/[^\/]+\/\.\.\//, "", path)) {}
    return path
}

function exists(path,    line, r) {
    if (!(path in known)) {
        r = (getline line < path)
        close(path)
        known[path] = r >= 0
    }
    return known[path]
}

# The longest folder of the rules that holds path.
function folder(path,    d) {
    for (d = dir_of(path); d != ""; d = dir_of(d))
        if (d in folders)
            return d
    return dir_of(path)
}

function report(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad++ }

function inside(path, dir) { return index(path, dir "/") == 1 }

FNR == 1 { files++ }
files == 1 {
    sub(/#.*/, "")
    if ($1 == "wall") {
        wall[++walls] = $2; wall_dir[walls] = $3
    } else if (NF == 2) {
        folders[$1] = 1
        edge[$1 " " $2] = 1
        if ($2 !~ /\.h$/)
            folders[$2] = 1
    }
    next
}

/^[ \t]*#[ \t]*include[ \t]*</ {
    split($0, part, /[<>]/)
    name = part[2]
    if (index(name, "praxino/") == 1) {
        name = "include/" name
    } else {
        fits = outside = 0
        for (i = 1; i <= walls; i++)
            if (index(name, wall[i]) == 1) {
                outside = 1
                if (inside(FILENAME, wall_dir[i]))
                    fits = 1
            }
        if (outside && !fits)
            report("<" name "> is behind a wall: see tests/lint/includes.txt")
        next
    }
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, part, /"/)
    name = clean(dir_of(FILENAME) "/" part[2])
    if (!exists(name))
        name = part[2]
    if (!exists(name)) {
        report("\"" part[2] "\" is neither beside the file nor below the root")
        next
    }
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
    from = folder(FILENAME)
    to = folder(name)
    checked++
    if (from != to && !((from " " to) in edge) && !((from " " name) in edge))
        report(from " may not include " name)
}
END {
    if (checked < 20) {
        print "includes: only " checked + 0 " lines checked: is the root right?"
        bad++
    }
    exit bad > 0
}
