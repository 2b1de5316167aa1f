// libsentencepiece behind a C surface: the only file that includes it. Nothing throws past this file.
#include "spm.h"

#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include <sentencepiece_processor.h>

struct prxi_spm {
    sentencepiece::SentencePieceProcessor processor;
};

namespace {

void say(char *why, size_t n, const char *text)
{
    std::snprintf(why, n, "%s", text);
}

// "<0xE2>" -> the byte.
char byte_of(const std::string &piece)
{
    return static_cast<char>(std::strtol(piece.c_str() + 3, nullptr, 16));
}

}  // namespace

extern "C" prxi_spm *prxi_spm_open(const void *data, size_t n, char *why, size_t why_size)
{
    prxi_spm *s = nullptr;
    try {
        s = new prxi_spm;
        const auto status = s->processor.LoadFromSerializedProto({ static_cast<const char *>(data), n });
        if (status.ok())
            return s;
        say(why, why_size, status.ToString().c_str());
    } catch (const std::exception &e) {
        say(why, why_size, e.what());
    } catch (...) {
        say(why, why_size, "unknown failure");
    }
    delete s;
    return nullptr;
}

extern "C" void prxi_spm_close(prxi_spm *s)
{
    delete s;
}

extern "C" int prxi_spm_size(const prxi_spm *s)
{
    return s->processor.GetPieceSize();
}

extern "C" const char *prxi_spm_piece(const prxi_spm *s, int id, size_t *len, float *score)
{
    const std::string &piece = s->processor.IdToPiece(id);
    *len = piece.size();
    *score = s->processor.GetScore(id);
    return piece.data();
}

// This version of the library has no call that only normalises; the pieces of an encoding, joined, are the
// normalised text (an unknown stretch is a piece of its own, or its bytes where the model falls back to bytes).
extern "C" int prxi_spm_normalize(const prxi_spm *s, const char *text, size_t n,
                                  void (*put)(void *cookie, const char *bytes, size_t n), void *cookie)
{
    try {
        std::vector<std::string> pieces;
        if (!s->processor.Encode({ text, n }, &pieces).ok())
            return PRX_EINTERNAL;
        std::string joined;
        for (const std::string &piece : pieces) {
            const int id = s->processor.PieceToId(piece);
            // A byte piece stands for a byte only where the text has it not spelled out: encoding never yields it then.
            if (s->processor.IsByte(id))
                joined += byte_of(piece);
            else
                joined += piece;
        }
        put(cookie, joined.data(), joined.size());
        return PRX_OK;
    } catch (const std::bad_alloc &) {
        return PRX_ENOMEM;
    } catch (...) {
        return PRX_EINTERNAL;
    }
}
