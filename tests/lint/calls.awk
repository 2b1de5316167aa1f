# What library code must not call: it never exits, aborts or prints, and allocates through prxi_mem only.
# Usage: awk -f calls.awk FILES... Comments and texts are left out before the check.

function report(text) { printf "%s:%d: %s\n", FILENAME, FNR, text; bad++ }

FNR == 1 { comment = 0 }
{
    line = $0
    sub(/free\(real\);/, "", line)       # what realpath() gave
    gsub(/\\./, "", line)
    gsub(/"[^"]*"/, "\"\"", line)
    if (comment) {
        if (!sub(/^.*\*\//, "", line))
            next
        comment = 0
    }
    gsub(/\/\*[^*]*(\*[^\/*][^*]*)*\*\//, "", line)
    sub(/\/\/.*/, "", line)
    if (sub(/\/\*.*/, "", line))
        comment = 1
}
line ~ /(^|[^A-Za-z0-9_.>])(exit|_exit|_Exit|abort|quick_exit)[ ]*\(/ { report("library code never ends the program") }
line ~ /(^|[^A-Za-z0-9_.>])(printf|puts|putchar|perror|vprintf)[ ]*\(/ { report("library code never prints") }
line ~ /f(printf|puts|putc)[ ]*\([ ]*(stderr|stdout)/ { report("library code never prints") }
line ~ /(^|[^A-Za-z0-9_.>])(sprintf|strcpy|strcat|gets|strtok|localtime|gmtime|setlocale|rand|srand)[ ]*\(/ {
    report("unbounded, or state of the process")
}
FILENAME == "engine/core/mem.c" { next }
line ~ /(^|[^A-Za-z0-9_.>])(malloc|calloc|realloc|free|alloca)[ ]*\(/ { report("memory comes from prxi_mem") }
line ~ /(^|[^A-Za-z0-9_.>])(strn?dup|aligned_alloc|posix_memalign)[ ]*\(/ { report("memory comes from prxi_mem") }
END { exit bad > 0 }
