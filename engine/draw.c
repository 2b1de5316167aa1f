/* Drawing on a picture. Edges are smooth: a pixel takes colour by how much of it is covered. */
#include "draw.h"

#include <math.h>

static void blend(prxi_picture *p, int x, int y, double cover, uint32_t color)
{
    const int in[3] = { color >> 16 & 255, color >> 8 & 255, color & 255 };
    if (x < 0 || y < 0 || x >= p->width || y >= p->height || cover <= 0)
        return;
    uint8_t *to = p->rgb + 3 * ((size_t)y * (size_t)p->width + (size_t)x);
    for (int i = 0; i < 3; i++)
        to[i] = (uint8_t)(to[i] + (in[i] - to[i]) * (cover < 1 ? cover : 1) + 0.5);
}

/* The first and last pixel that [a, b] touches within [0, n). */
static int first_of(double a)
{
    return a > 0 ? (int)floor(a) : 0;
}

static int last_of(double b, int n)
{
    return b < n - 1 ? (int)ceil(b) : n - 1;
}

static double overlap(int pixel, double a, double b)
{
    return fmax(0, fmin(b, pixel + 1) - fmax(a, pixel));
}

void prxi_draw_box(prxi_picture *p, double x0, double y0, double x1, double y1, uint32_t color)
{
    for (int y = first_of(y0); y <= last_of(y1, p->height); y++)
        for (int x = first_of(x0); x <= last_of(x1, p->width); x++)
            blend(p, x, y, overlap(x, x0, x1) * overlap(y, y0, y1), color);
}

void prxi_draw_frame(prxi_picture *p, double x0, double y0, double x1, double y1, double thick, uint32_t color)
{
    prxi_draw_box(p, x0, y0, x1, y0 + thick, color);
    prxi_draw_box(p, x0, y1 - thick, x1, y1, color);
    prxi_draw_box(p, x0, y0 + thick, x0 + thick, y1 - thick, color);
    prxi_draw_box(p, x1 - thick, y0 + thick, x1, y1 - thick, color);
}

/* Covered is what is nearer than half the thickness to the segment. */
void prxi_draw_line(prxi_picture *p, double x0, double y0, double x1, double y1, double thick, uint32_t color)
{
    const double dx = x1 - x0, dy = y1 - y0, length = dx * dx + dy * dy, r = thick / 2;
    for (int y = first_of(fmin(y0, y1) - r - 1); y <= last_of(fmax(y0, y1) + r + 1, p->height); y++)
        for (int x = first_of(fmin(x0, x1) - r - 1); x <= last_of(fmax(x0, x1) + r + 1, p->width); x++) {
            const double px = x + 0.5 - x0, py = y + 0.5 - y0;
            const double t = length > 0 ? fmax(0, fmin(1, (px * dx + py * dy) / length)) : 0;
            blend(p, x, y, r + 0.5 - hypot(px - t * dx, py - t * dy), color);
        }
}

/* ---- text: strokes on a grid of 4 x 8, capitals from row 0 to row 6; "xyxy xyxy" is two strokes ---- */

static const char *const glyphs[128] = {
    ['0'] = "103041453616050110", ['1'] = "012026", ['2'] = "01103041420646", ['3'] = "004022324345361605",
    ['4'] = "36300444", ['5'] = "40000312324345361605", ['6'] = "3010020516364544331304", ['7'] = "004016",
    ['8'] = "103041423313020110 1304051636454433", ['9'] = "1636444130100102133342",
    ['a'] = "4246 4332120305163645", ['b'] = "0006 0312324345361605", ['c'] = "4332120305163645", ['d'] = "4046 4332120305163645",
    ['e'] = "04444332120305163645", ['f'] = "30201116 0232", ['g'] = "4247381807 4332120305163645", ['h'] = "0006 0312324346",
    ['i'] = "0206 0000", ['j'] = "121708 1010", ['k'] = "0006 3204 1436", ['l'] = "000516", ['m'] = "0206 03122326 23324346",
    ['n'] = "0206 0312324346", ['o'] = "123243453616050312", ['p'] = "0208 0312324345361605", ['q'] = "4248 4332120305163645",
    ['r'] = "0206 031232", ['s'] = "43321203143445361605", ['t'] = "10152636 0232", ['u'] = "0205163645 4246", ['v'] = "022642",
    ['w'] = "0216233642", ['x'] = "0246 4206", ['y'] = "0225 4208", ['z'] = "02420646",
    ['A'] = "062046 1434", ['B'] = "00063645443303 0030414233", ['C'] = "4130100105163645", ['D'] = "00062644422000",
    ['E'] = "40000646 0333", ['F'] = "400006 0333", ['G'] = "41301001051636454323", ['H'] = "0006 4046 0343", ['I'] = "0006",
    ['J'] = "4045361605", ['K'] = "0006 400346", ['L'] = "000646", ['M'] = "0600234046", ['N'] = "06004640",
    ['O'] = "103041453616050110", ['P'] = "06003041423303", ['Q'] = "103041453616050110 2446", ['R'] = "06003041423303 2346",
    ['S'] = "413010010213334445361605", ['T'] = "0040 2026", ['U'] = "000516364540", ['V'] = "002640", ['W'] = "0016223640",
    ['X'] = "0046 4006", ['Y'] = "002340 2326", ['Z'] = "00400646", [' '] = "", ['.'] = "0606", [','] = "1607", [':'] = "0303 0606",
    [';'] = "1313 1607", ['-'] = "0434", ['+'] = "2125 0343", ['>'] = "024406", ['<'] = "420446", ['('] = "10010516", [')'] = "00111506",
    ['['] = "10000616", [']'] = "00101606", ['/'] = "0640", ['_'] = "0747", ['%'] = "0640 0000 4646", ['='] = "0343 0545",
    ['*'] = "2024 0143 4103", ['\''] = "0001", ['"'] = "0001 2021", ['!'] = "0004 0606", ['?'] = "0110304142232424 2626",
    ['#'] = "1006 3026 0242 0444", ['|'] = "0007", ['~'] = "04133443", ['@'] = "332224334434304110010516", ['&'] = "46121020220405163644",
};

static const char *glyph(char ch)
{
    const unsigned char u = (unsigned char)ch;
    return u < 128 && glyphs[u] ? glyphs[u] : "02420602 4246";
}

/* Units of the grid that a glyph takes, with the space after it. */
static double advance(char ch)
{
    double w = ch == ' ' ? 2 : 0;
    for (const char *p = glyph(ch); *p; p += *p == ' ' ? 1 : 2)
        if (*p != ' ')
            w = fmax(w, *p - '0');
    return w + 1.8;
}

double prxi_text_width(double size, const char *text)
{
    double w = 0;
    for (; *text; text++)
        w += advance(*text);
    return w > 0 ? (w - 1.8) * size / 6 : 0;
}

static void draw_glyph(prxi_picture *p, double x, double y, double unit, uint32_t color, const char *strokes)
{
    double last_x = 0, last_y = 0;
    int begun = 0;
    for (const char *g = strokes; *g && g[1]; g += 2) {
        if (*g == ' ') {
            begun = 0;
            g--;
            continue;
        }
        const double at_x = x + (g[0] - '0') * unit, at_y = y + (g[1] - '0' - 6) * unit;
        if (begun || !g[2] || g[2] == ' ')
            prxi_draw_line(p, begun ? last_x : at_x, begun ? last_y : at_y, at_x, at_y, fmax(1.1, 0.8 * unit), color);
        last_x = at_x, last_y = at_y;
        begun = 1;
    }
}

void prxi_draw_text(prxi_picture *p, double x, double y, double size, prxi_align align, uint32_t color, const char *text)
{
    const double unit = size / 6;
    x -= prxi_text_width(size, text) * (align == PRXI_RIGHT ? 1 : align == PRXI_CENTER ? 0.5 : 0);
    for (; *text; text++) {
        draw_glyph(p, x, y, unit, color, glyph(*text));
        x += advance(*text) * unit;
    }
}
