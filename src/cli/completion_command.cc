// leap completion bash|zsh: a completion script made from the commands themselves, so it cannot fall behind them.

#include <map>

#include <fmt/format.h>

#include "cli/command.h"

namespace leap::cli {
namespace {

/// "leap", "leap bench", "leap bench io", ... -> the words that may follow.
void collect(const CLI::App& app, const std::string& path, std::map<std::string, std::string>& words) {
  std::string& next = words[path];
  for (const CLI::App* sub : app.get_subcommands({})) {
    next += sub->get_name() + " ";
    collect(*sub, path + " " + sub->get_name(), words);
  }
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) next += "--" + name + " ";
  }
}

std::string script(const CLI::App& app, bool zsh) {
  std::map<std::string, std::string> words;
  collect(app, "leap", words);
  std::string text = zsh ? "autoload -U +X bashcompinit && bashcompinit\n" : "";
  text += "_leap() {\n  local path=leap word\n  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n";
  text += "    case \"$path $word\" in\n";
  for (const auto& [path, following] : words) {
    if (path != "leap") text += fmt::format("      '{}') path='{}' ;;\n", path, path);
  }
  text += "    esac\n  done\n  local options=\n  case \"$path\" in\n";
  for (const auto& [path, following] : words) text += fmt::format("    '{}') options='{}' ;;\n", path, following);
  text += "  esac\n  COMPREPLY=($(compgen -W \"$options\" -f -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n";
  text += "complete -o filenames -F _leap leap\n";
  return text;
}

}  // namespace

void add_completion(CLI::App& app, Chosen& chosen) {
  auto* command = app.add_subcommand("completion", "Print a shell completion script: source <(leap completion bash)");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash or zsh")->required()->check(CLI::IsMember({"bash", "zsh"}));
  command->callback([&app, &chosen, shell] {
    chosen.action = [&app, shell] {
      fmt::print("{}", script(app, *shell == "zsh"));
      return 0;
    };
  });
}

}  // namespace leap::cli
