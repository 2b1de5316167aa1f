# Text style of sources: tabs, blanks at line ends, carriage returns, long lines, invisible characters, leftovers.
# Usage: LC_ALL=C awk -f text.awk FILES...
# Lines of source have 140 characters at most, 120 where it can be helped; texts and data may be longer.

function report(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad++ }

function long_allowed() { return FILENAME ~ /\.(md|json|txt)$/ }

/\t/ { report("tab") }
/[ \t]$/ { report("blank at the end of the line") }
/\r/ { report("carriage return") }
length($0) > 140 && !long_allowed() && $0 !~ /https?:/ {
    text = $0
    gsub(/[\200-\277]/, "", text)      # continuation bytes of UTF-8
    if (length(text) > 140)
        report("longer than 140 characters")
}
/\342\200[\213-\217\252-\256]|\342\201[\240-\257]|\357\273\277/ { report("invisible character") }
FILENAME ~ /(CMakeLists\.txt|\.cmake)$/ && !/^[ \t]*#/ && /-ffast-math|-Ofast|-march=native/ {
    report("flag that changes results")
}
FILENAME ~ /^tests\/lint\// { next }
/(^|[^A-Za-z_])(TODO|FIXME|XXX)([^A-Za-z_]|$)/ { report("unfinished: do it, or say it in docs/") }
/(^|[^A-Za-z0-9_.])\/(work|opt\/pv)\// { report("path of somebody's machine") }
END { exit bad > 0 }
