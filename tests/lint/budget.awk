# Budgets: lines of a file, lines of a function. Usage: awk -f budget.awk FILES... (C and C++ sources).
# A file has at most 800 lines, one of kernels 1200; a function at most 150, in files of kernels 300.

function kernels(path) {
    return path ~ /^engine\/ops\// || path ~ /_(avx2|avx512|avx512bf16)\.c$/ || path ~ /\/(ref|x86)\//
}
function report(line, text) { printf "%s:%d: %s\n", name, line, text; bad++ }
function finish() {
    if (name != "" && lines > (kernels(name) ? 1200 : 800))
        report(lines, lines " lines: split the file")
}

FNR == 1 { finish(); name = FILENAME; begin = 0 }
{ lines = FNR }
/^{/ { begin = FNR }
/^}/ {
    if (begin && FNR - begin - 1 > (kernels(name) ? 300 : 150))
        report(begin, FNR - begin - 1 " lines: split the function")
    begin = 0
}
END { finish(); exit bad > 0 }
