variable "name" {
  description = "Name of the cluster; its state lies in a folder of this name."
  type        = string
  default     = "meridian"

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.name))
    error_message = "Use at most 63 lower-case letters, digits and '-'."
  }
}

variable "regions" {
  description = "Regions, and how many nodes each has. This machine plays eu-west, us-east and ap-south."
  type        = map(object({ nodes = optional(number, 1) }))
  default     = { eu-west = {}, us-east = {}, ap-south = {} }

  validation {
    condition     = length(setsubtract(keys(var.regions), ["eu-west", "us-east", "ap-south"])) == 0 && length(var.regions) == 3
    error_message = "The local cluster has the regions eu-west, us-east and ap-south, all three."
  }

  validation {
    condition     = alltrue([for region in values(var.regions) : region.nodes >= 1 && region.nodes <= 9 && floor(region.nodes) == region.nodes])
    error_message = "Each region has 1 to 9 nodes."
  }
}

variable "nodes_max" {
  description = "How many nodes there may ever be. Limits are cut into that many parts when the cluster begins; a node beyond has to borrow each token."
  type        = number
  default     = 9

  validation {
    condition     = var.nodes_max >= sum([for region in values(var.regions) : region.nodes]) && var.nodes_max <= 27
    error_message = "At least as many as the regions have together, and at most 27."
  }
}

variable "workers" {
  description = "Gateway workers of each node."
  type        = number
  default     = 1

  validation {
    condition     = var.workers >= 1 && var.workers <= 256 && floor(var.workers) == var.workers
    error_message = "A node has 1 to 256 workers."
  }
}

variable "document" {
  description = "The document that the cluster serves, a file; empty for examples/shop.yaml with its services."
  type        = string
  default     = ""

  validation {
    condition     = var.document == "" ? true : fileexists(var.document)
    error_message = "There is no such file."
  }
}

variable "home" {
  description = "Folder below which the state of clusters lies; empty for .meridian beside the configuration."
  type        = string
  default     = ""
}

variable "command" {
  description = "The meridian command."
  type        = string
  default     = "meridian"
}
