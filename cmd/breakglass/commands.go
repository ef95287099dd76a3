package main

import "github.com/spf13/cobra"

// commands in the order of a day: look, open, close, look back; then what is
// done in peace.
func commands() []*cobra.Command {
	return []*cobra.Command{
		newStatusCommand(),
		newActivateCommand(),
		newRevokeCommand(),
		newReviewCommand(),
		newTimelineCommand(),
		newAuditCommand(),
		newReportCommand(),
		newTokenCommand(),
		newValidateCommand(),
		newLintCommand(),
		newDiffCommand(),
		newRenderCommand(),
		newExportCommand(),
		newServeCommand(),
		newControllerCommand(),
		newDemoCommand(),
		newVersionCommand(),
		newManCommand(),
		newDeadmanCommand(),
		newAgentCommand(),
		newEnvoyCommand(),
		newInstallSelfCommand(),
	}
}
