/** `config render notifications`: what has to be set at the primary for this configuration. */
import { type Command, Option } from 'commander'
import {
  loadConfig,
  NOTIFICATION_FORMS,
  type NotificationForm,
  NotificationsFault,
  renderNotifications,
} from '../config.ts'
import type { CommandContext, ConfigOption } from './command-context.ts'
import { CommandFailed } from './command-output.ts'

interface RenderOptions extends ConfigOption {
  readonly for: NotificationForm
  readonly url?: string
  readonly showSecret?: boolean
}

export function addRenderNotifications(look: Command, { output, withConfig }: CommandContext): void {
  const render = look
    .command('render')
    .description('print what has to be set elsewhere for this configuration')
  withConfig(render.command('notifications'))
    .description("print the notifications endpoint for the primary's registry, for this relay or site")
    .addOption(
      new Option('--for <form>', 'in the words of').choices(NOTIFICATION_FORMS).default('distribution'),
    )
    .option('--url <url>', "where the primary's registry reaches this listener (default: http.events.addr)")
    .option('--show-secret', 'print the secret itself, not where it is to be had')
    .action(({ config: file, for: form, url, showSecret }: RenderOptions) => {
      const { config } = loadConfig({ file })
      try {
        output.out(renderNotifications(config, { form, url, showSecret }))
      } catch (error) {
        if (!(error instanceof NotificationsFault)) throw error
        throw new CommandFailed(error.message, 2)
      }
    })
}
