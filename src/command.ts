/**
 * The command line. Exit statuses: 0 done, 1 the answer is no or the site failed, 2 wrong usage or configuration. What
 * serves is imported only by the commands that serve, so that the others start at once.
 */
import { Command, CommanderError } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import { AdminUnreachable } from './admin-client.ts'
import { addAgainCommands } from './commands/again-commands.ts'
import { createAsking } from './commands/asking.ts'
import type { CommandContext, ConfigOption } from './commands/command-context.ts'
import { CommandFailed, type CommandOutput, type ExitStatus } from './commands/command-output.ts'
import { addHandCommands } from './commands/hand-commands.ts'
import { addRenderNotifications } from './commands/render-notifications.ts'
import { addStatusCommands } from './commands/status-commands.ts'
import { addUpkeepCommands } from './commands/upkeep-commands.ts'
import { printConfig } from './config/print.ts'
import { type Config, ConfigError, DEFAULT_CONFIG_FILE, loadConfig } from './config.ts'
import type { SiteDeps } from './site.ts'

export type { CommandOutput, ExitStatus } from './commands/command-output.ts'

const CONFIGURATION_HELP = `
Configuration:
  A YAML file, ${DEFAULT_CONFIG_FILE} unless --config names another, and over it variables
  such as GEO_REGISTRY__STORAGE__FILESYSTEM__ROOTDIRECTORY=/var/lib/geo-registry (two underscores between the
  keys). Without a file, the variables alone. HTTPS_PROXY, HTTP_PROXY and NO_PROXY are honoured.

Exit status:
  0 done · 1 the answer is no, or the site failed · 2 wrong usage or configuration`

/** Runs one command to its end; for `serve` and `proxy` that is the end of the site. `args`: without node and script. */
export async function runCommand(args: readonly string[], output: CommandOutput): Promise<ExitStatus> {
  let status: ExitStatus = 0
  const program = new Command('geo-registry')
    .description(
      'One registry URL for a secondary site: pulls answered here, misses and pushes sent to the primary.',
    )
    .version(packageJson.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'explain a command')
    .configureHelp({ helpWidth: 110 })
    .configureOutput({ writeOut: output.out, writeErr: output.err })
    .addHelpText('after', CONFIGURATION_HELP)
    .showSuggestionAfterError()
    .exitOverride()

  const withConfig = (command: Command) =>
    command.option('-c, --config <file>', `configuration (default: ${DEFAULT_CONFIG_FILE}, if it is there)`)

  program.commandsGroup('Commands that serve:')
  for (const [role, description] of [
    ['serve', 'run everything of this site in one process, until SIGTERM'],
    ['proxy', 'run only the /v2/ surface that clients use, until SIGTERM'],
    ['replicator', 'run only what keeps the copy in step, until SIGTERM'],
  ] as const) {
    withConfig(program.command(role))
      .description(description)
      .action(async (options: ConfigOption) => {
        const { config } = loadConfig({ file: options.config, side: 'site' })
        status = await serve(config, 'site', async (deps) => {
          const { startSite } = await import('./site.ts')
          await startSite(config, role, deps)
        })
      })
  }
  withConfig(program.command('relay'))
    .description(
      "run, beside the primary, what numbers and keeps its registry's events for the sites, until SIGTERM",
    )
    .action(async (options: ConfigOption) => {
      const { config } = loadConfig({ file: options.config, side: 'relay' })
      status = await serve(config, 'relay', async (deps) => {
        const { startRelay } = await import('./relay-site.ts')
        await startRelay(config, deps)
      })
    })

  const context: CommandContext = {
    output,
    withConfig,
    asking: ({ config }) => createAsking(loadConfig({ file: config }).config.admin),
    end: (ended) => {
      status = ended
    },
  }
  program.commandsGroup('Settings:')
  const look = program.command('config').description('look at the configuration without starting anything')
  withConfig(look.command('check'))
    .description('say OK, or every fault with its path and what was expected')
    .action((options: ConfigOption) => {
      loadConfig({ file: options.config })
      output.out('OK\n')
    })
  withConfig(look.command('print'))
    .description('print what takes effect and where each value comes from, secrets masked')
    .action((options: ConfigOption) => {
      const { config, effective } = loadConfig({ file: options.config })
      output.out(printConfig(effective, config.upstream.proxies))
    })

  addRenderNotifications(look, context)
  addStatusCommands(program.commandsGroup('How things stand:'), context)
  addAgainCommands(program.commandsGroup('The hand on replication:'), context)
  addHandCommands(program, context)
  addUpkeepCommands(program.commandsGroup('Upkeep:'), context)

  try {
    await program.parseAsync(args, { from: 'user' })
    return status
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
    if (error instanceof ConfigError) {
      output.err(`${error.message}\n`)
      return 2
    }
    if (error instanceof CommandFailed) {
      output.err(`${error.message}\n`)
      return error.status
    }
    if (error instanceof AdminUnreachable) {
      output.err(`${error.message}\n`)
      return 1
    }
    throw error
  }
}

/** What is started gets what every process has: a log, metrics and a life that ends with a signal. */
async function serve(
  config: Config,
  what: 'site' | 'relay',
  start: (deps: SiteDeps) => Promise<void>,
): Promise<ExitStatus> {
  const [{ createLogger }, { createMetrics }, { createLifecycle }] = await Promise.all([
    import('./log.ts'),
    import('./metrics.ts'),
    import('./lifecycle.ts'),
  ])
  const metrics = createMetrics({ process: true })
  const log = createLogger({ level: config.log.level, onDrop: () => metrics.logLinesDropped.inc() })
  const lifecycle = createLifecycle({ log, drainTimeoutMs: config.http.drainTimeoutMs })
  lifecycle.handleSignals()
  try {
    await start({ log, metrics, lifecycle })
  } catch (error) {
    log.error({ error }, `the ${what} did not start`)
    await lifecycle.stop('start failed')
    return 1
  }
  const { clean } = await lifecycle.stopped
  return clean ? 0 : 1
}
