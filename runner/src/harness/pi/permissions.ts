// Lodge's permission extension for pi: asks before each tool call, through a dialog that Lodge recognises.
// What is allowed for longer than once Lodge remembers: this process may end before the session does.
export default function (pi: any) {
  pi.on("tool_call", async (event: any, ctx: any) => {
    const question = JSON.stringify({ tool: event.toolName, arguments: event.input });
    const choices = ["once", "deny", "deny_and_stop"];
    const choice = await ctx.ui.select(`lodge-permission:${question}`, choices);
    if (choice === "once") return undefined;
    return { block: true, reason: "The user did not allow this tool call." };
  });
}
