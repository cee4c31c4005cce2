// Lodge's permission extension for pi: asks before each tool call, through a dialog that Lodge recognises.
export default function (pi: any) {
  const allowed = new Set<string>();
  pi.on("tool_call", async (event: any, ctx: any) => {
    if (allowed.has(event.toolName)) return undefined;
    const question = JSON.stringify({ tool: event.toolName, arguments: event.input });
    const choices = ["once", "session", "deny", "deny_and_stop"];
    const choice = await ctx.ui.select(`lodge-permission:${question}`, choices);
    if (choice === "session") allowed.add(event.toolName);
    if (choice === "once" || choice === "session") return undefined;
    return { block: true, reason: "The user did not allow this tool call." };
  });
}
