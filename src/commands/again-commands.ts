/** `resync` and `reverify`: one repository, those of a pattern, those that failed, or all. */
import type { Command } from 'commander'
import { formatCount } from '../status/words.ts'
import { type Asking, inUrl } from './asking.ts'
import type { CommandContext, ConfigOption } from './command-context.ts'
import { CommandFailed, type CommandOutput } from './command-output.ts'

interface AgainOptions extends ConfigOption {
  readonly pattern?: string
  readonly failed?: boolean
  readonly all?: boolean
  readonly dryRun?: boolean
}

interface Action {
  readonly name: 'resync' | 'reverify'
  readonly description: string
  readonly promised: string
}

const ACTIONS: readonly Action[] = [
  {
    name: 'resync',
    description:
      'have repositories compared with the primary and copied again, also those that need attention',
    promised: 'to be synced again',
  },
  {
    name: 'reverify',
    description: 'have what is here compared with the primary again, tag by tag',
    promised: 'to be verified again',
  },
]

export function addAgainCommands(program: Command, { output, withConfig, asking }: CommandContext): void {
  for (const action of ACTIONS) {
    withConfig(program.command(action.name))
      .description(action.description)
      .argument('[repository]', 'one, by its whole name')
      .option(
        '--pattern <pattern>',
        'those whose path matches: * stands for any characters; without one, a part of the path',
      )
      .option('--failed', 'those that failed')
      .option('--all', 'all of them')
      .option('-n, --dry-run', 'count, and do nothing')
      .action(async (repository: string | undefined, options: AgainOptions) => {
        const chosen = [repository, options.pattern, options.failed, options.all].filter(Boolean)
        const both = options.pattern !== undefined && options.failed && chosen.length === 2
        if (chosen.length !== 1 && !both) {
          throw new CommandFailed(
            `error: ${action.name}: expected a repository, --pattern, --failed, both of these, or --all`,
            2,
          )
        }
        const running = asking(options)
        if (repository !== undefined) await one(running, action, repository, options, output)
        else await several(running, action, options, output)
      })
  }
}

async function one(
  running: Asking,
  { name, promised }: Action,
  repository: string,
  { dryRun = false }: AgainOptions,
  output: CommandOutput,
): Promise<void> {
  const path = `/repositories/${inUrl(repository)}/${name}`
  if (!(await running.find('POST', path, { dryrun: dryRun }))) {
    throw new CommandFailed(`${repository} is not tracked: the primary was never seen to have it`, 1)
  }
  output.out(dryRun ? `1 repository would be asked ${promised}.\n` : `1 repository is ${promised}.\n`)
}

/** The count comes before the deed, so that who sees a wrong one can still interrupt what follows from it. */
async function several(
  running: Asking,
  { name, promised }: Action,
  { pattern, failed, all, dryRun = false }: AgainOptions,
  output: CommandOutput,
): Promise<void> {
  const filter = { path: pattern, state: failed ? 'failed' : undefined, all }
  const path = `/repositories/${name}`
  const count = async (dryrun: boolean) =>
    (await running.ask<{ readonly repositories: number }>('POST', path, { ...filter, dryrun })).repositories
  const expected = await count(true)
  const matching = `${formatCount(expected, 'repository', 'repositories')} ${expected === 1 ? 'matches' : 'match'}.\n`
  output.out(dryRun ? `${matching}Nothing was done.\n` : matching)
  if (dryRun || expected === 0) return
  const done = await count(false)
  output.out(`${formatCount(done, 'repository', 'repositories')} ${done === 1 ? 'is' : 'are'} ${promised}.\n`)
}
